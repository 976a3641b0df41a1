import { describe, expect, it } from 'vitest';
import { tickJitterMs } from './tick-jitter.js';

describe('jitter', () => {
  it('is the same for the same tick, within its bound, and spread over it', () => {
    const drawn = Array.from({ length: 2_000 }, (_, at) => tickJitterMs('schedule', new Date(at * 60_000), 9));
    expect(drawn).toEqual(Array.from({ length: 2_000 }, (_, at) => tickJitterMs('schedule', new Date(at * 60_000), 9)));
    expect(new Set(drawn)).toEqual(new Set([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]));
    expect(tickJitterMs('another', new Date(0), 1_000_000)).not.toBe(tickJitterMs('schedule', new Date(0), 1_000_000));
    expect(tickJitterMs('schedule', new Date(0), 0)).toBe(0);
  });
});
