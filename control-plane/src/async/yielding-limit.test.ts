import { afterEach, expect, it } from 'vitest';
import { YieldingLimit } from './yielding-limit.js';

let limit: YieldingLimit | undefined;
afterEach(() => limit?.close());

function after(looks: number, utilization: number, max = 128, slowness = 0): number {
  limit = new YieldingLimit(
    max,
    () => slowness,
    () => utilization,
  );
  for (let look = 0; look < looks; look += 1) limit.look();
  return limit.current;
}

it('allows all while there is time to spare, and few while there is none', () => {
  expect(after(0, 0)).toBe(16);
  expect(after(20, 0.1)).toBe(128);
  expect(after(20, 0.7)).toBe(16);
  expect(after(50, 0.95)).toBe(4);
  expect(after(50, 0.95, 2)).toBe(2);
  expect(after(50, 0.1, 4)).toBe(4);
  expect(after(50, 0.1, 128, 5)).toBe(4);
  expect(after(50, 0.1, 128, 3)).toBe(16);
});

it('measures this process itself', () => {
  limit = new YieldingLimit(128, () => 0);
  limit.look();
  const until = performance.now() + 50;
  while (performance.now() < until);
  const before = limit.current;
  limit.look();
  expect(limit.current).toBeLessThan(before);
});
