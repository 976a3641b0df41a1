import { expect, it } from 'vitest';
import { Slowness } from './slowness.js';

it('compares with the best, and says nothing of what was long ago', () => {
  let now = 0;
  const slowness = new Slowness(() => now);
  expect(slowness.ratio).toBe(0);
  slowness.took(2);
  expect(slowness.ratio).toBe(1);
  for (let n = 0; n < 50; n += 1) slowness.took(20);
  expect(slowness.ratio).toBeGreaterThan(8);
  expect(slowness.ratio).toBeLessThan(10);
  now += 301;
  expect(slowness.ratio).toBe(0);
  slowness.took(2);
  expect(slowness.ratio).toBeLessThan(1.1);
});
