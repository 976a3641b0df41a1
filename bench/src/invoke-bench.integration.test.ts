import { expect, it } from 'vitest';
import { benchInvoke } from './invoke-bench.js';

it('the benchmark measures warm calls in a system of its own and stops it', async () => {
  const progress: string[] = [];
  const figures = await benchInvoke({
    signal: new AbortController().signal,
    driver: 'docker',
    pairs: 2,
    calls: 10,
    onProgress: (line) => progress.push(line),
  });
  expect(figures.isolation).toBe('runc');
  for (const { p50, p50Range, p99 } of [figures.bare, figures.api, figures.gateway]) {
    expect(p50Range[0]).toBeGreaterThan(0);
    expect(p50).toBeGreaterThanOrEqual(p50Range[0]);
    expect(p50).toBeLessThanOrEqual(p50Range[1]);
    expect(p99).toBeGreaterThanOrEqual(p50);
  }
  for (const { p50, runP50, addedMs, overBareMs } of [figures.api, figures.gateway]) {
    expect(overBareMs).toBeCloseTo(p50 - figures.bare.p50, 2);
    expect(addedMs).toBeCloseTo(p50 - figures.bare.p50 - runP50, 2);
  }
  expect(progress.at(-1)).toBe('stopping');
});

it('a benchmark that is interrupted ends with the reason', async () => {
  const interrupted = AbortSignal.abort(new Error('SIGINT: stopped before the end'));
  const options = { signal: interrupted, driver: 'docker', pairs: 1, calls: 1, onProgress: () => {} } as const;
  await expect(benchInvoke(options)).rejects.toThrow('SIGINT');
});
