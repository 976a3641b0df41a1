import { expect, it } from 'vitest';
import { DEATHS_MAX, RestartPolicy, WINDOW_MS } from './restart-policy.js';

it('starts again at once, then later and later, and gives up at the fifth death within a minute', () => {
  const policy = new RestartPolicy(DEATHS_MAX, () => 0);
  const delays = Array.from({ length: DEATHS_MAX }, () => policy.died());
  expect(delays).toEqual([0, 250, 500, 1_000, undefined]);
});

it('forgets deaths that are a minute old', () => {
  let now = 0;
  const policy = new RestartPolicy(DEATHS_MAX, () => now);
  for (let death = 0; death < 20; death += 1) {
    expect(policy.died()).toBeDefined();
    now += WINDOW_MS / 4;
  }
});
