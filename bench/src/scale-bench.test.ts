import { expect, it } from 'vitest';
import { benchScale } from './scale-bench.js';

it('the benchmark places calls in simulated fleets of three sizes and compares policies', async () => {
  const figures = await benchScale({
    signal: new AbortController().signal,
    driver: 'process',
    ...{ nodes: 200, decisions: 600, minutes: 1 },
    onProgress: () => undefined,
  });
  expect(figures.sizes.map(({ nodes }) => nodes)).toEqual([2, 20, 200]);
  for (const size of figures.sizes) {
    expect(size.decisionP50Us).toBeGreaterThan(0);
    expect(size.decisionP99Us).toBeGreaterThanOrEqual(size.decisionP50Us);
    expect(size.reportP50Us).toBeGreaterThan(0);
    expect(size.warmShare).toBeGreaterThan(0.5);
    expect(size.usedShare).toBeGreaterThan(0);
  }
  expect(figures.policies).toHaveLength(6);
  const [ours, random] = figures.policies;
  expect(ours?.warmShare).toBeGreaterThan(random?.warmShare ?? 1);
});
