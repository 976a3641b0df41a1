import { expect, it } from 'vitest';
import { benchQueue } from './queue-bench.js';

it('the benchmark measures the door, the way to a sandbox and the claims of a queue, and stops what it started', async () => {
  const progress: string[] = [];
  const figures = await benchQueue({
    signal: new AbortController().signal,
    driver: 'docker',
    ...{ seconds: 1, clients: 3, starts: 5, depth: 5_000, rounds: 2 },
    onProgress: (line) => progress.push(line),
  });
  expect(figures.accepted).toBeGreaterThan(0);
  expect(figures.acceptedPerSecond).toBeGreaterThan(0);
  expect(figures.acceptP99Ms).toBeGreaterThanOrEqual(figures.acceptP50Ms);
  expect(figures.endedPerSecond).toBeGreaterThan(0);
  expect(figures.startP90Ms).toBeGreaterThanOrEqual(figures.startP50Ms);
  expect(figures.claimRateMillionToThousand).toBeCloseTo(
    figures.claimedPerSecond / figures.claimedPerSecondOfThousand,
    1,
  );
  expect(progress).toContain('stopping the system');
});
