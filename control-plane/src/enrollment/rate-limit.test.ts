import { describe, expect, it } from 'vitest';
import { RateLimit } from './rate-limit.js';

describe('RateLimit', () => {
  it('lets so many through at once, then as many as time brings, and never saves more than its burst', () => {
    let now = 0;
    const limit = new RateLimit(3, 2, () => now);
    const taken = (tries: number) => Array.from({ length: tries }, () => limit.take()).filter(Boolean).length;
    expect(taken(10)).toBe(3);
    now += 1_000;
    expect(taken(10)).toBe(2);
    now += 3_600_000;
    expect(taken(10)).toBe(3);
  });
});
