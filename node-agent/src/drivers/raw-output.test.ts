import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type OutputListener, RawOutput } from './raw-output.js';

const LINES_IN_CHUNK = 30_000;
const chunk = () => Buffer.alloc(2 * LINES_IN_CHUNK, 'y\n');

describe('RawOutput', () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  function output(listener: OutputListener) {
    const source = { flowing: true };
    const raw = new RawOutput({
      pause: () => {
        source.flowing = false;
      },
      resume: () => {
        source.flowing = true;
      },
    });
    raw.listen(listener);
    return { raw, source };
  }

  const linesOf = (bytes: Buffer): number => bytes.toString().split('\n').length - 1;

  it('delivers a chunk of many lines that are kept bit by bit, whole and in order', async () => {
    const bits: string[] = [];
    const { raw, source } = output((stream, bytes) => {
      bits.push(`${stream}:${bytes}`);
      return linesOf(bytes);
    });
    raw.push('stdout', chunk());
    raw.push('stderr', Buffer.from('last'));
    const atOnce = bits.join('').split('\n').length;
    expect(atOnce).toBeLessThan(1_500);
    expect(source.flowing).toBe(false);
    await vi.advanceTimersByTimeAsync(1_000);
    expect(bits.join('').split('\n').length).toBeLessThan(1_500 + 2_500);
    await vi.advanceTimersByTimeAsync(20_000);
    expect(source.flowing).toBe(true);
    expect(bits.pop()).toBe('stderr:last');
    expect(bits.map((bit) => bit.replace('stdout:', '')).join('')).toBe(chunk().toString());
  });

  it('counts by bytes what is not kept', async () => {
    let seen = 0;
    const { raw, source } = output((_, bytes) => {
      seen += bytes.length;
      return 0;
    });
    for (let at = 0; at < 4; at += 1) raw.push('stdout', Buffer.alloc(1024 * 1024, 'y\n'));
    expect([seen, source.flowing]).toEqual([4 * 1024 * 1024, true]);
    raw.push('stdout', Buffer.alloc(1024 * 1024, 'y\n'));
    expect(source.flowing).toBe(false);
    await vi.advanceTimersByTimeAsync(1_100);
    expect([seen, source.flowing]).toEqual([5 * 1024 * 1024, true]);
  });

  it('lets everything through once it is lifted, what waits first', () => {
    const bits: string[] = [];
    const { raw, source } = output((_, bytes) => {
      bits.push(bytes.toString());
      return linesOf(bytes);
    });
    raw.push('stdout', chunk());
    raw.push('stdout', Buffer.from('then'));
    raw.lift();
    expect(source.flowing).toBe(true);
    expect(bits.pop()).toBe('then');
    expect(bits.join('')).toHaveLength(2 * LINES_IN_CHUNK);
    raw.push('stdout', chunk());
    expect(bits.join('')).toHaveLength(4 * LINES_IN_CHUNK);
  });

  it('drops what comes before somebody listens', () => {
    const seen: string[] = [];
    const raw = new RawOutput({ pause: () => {}, resume: () => {} });
    raw.push('stdout', Buffer.from('early'));
    raw.listen((_, bytes) => {
      seen.push(bytes.toString());
      return 0;
    });
    raw.push('stdout', Buffer.from('late'));
    expect(seen).toEqual(['late']);
  });
});
