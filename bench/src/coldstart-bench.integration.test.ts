import { expect, it } from 'vitest';
import { benchColdStart, type ColdStartReport } from './coldstart-bench.js';
import { missedBounds } from './coldstart-report.js';

it('the benchmark measures starts from a blank and without, under every isolation, beside docker run', async () => {
  const progress: string[] = [];
  const figures = await benchColdStart({
    signal: new AbortController().signal,
    driver: 'docker',
    rounds: 1,
    onProgress: (line) => progress.push(line),
  });
  for (const measured of [figures.runc, figures.gvisor]) {
    if (measured === null) throw new Error('gVisor was not measured: the engine has no runtime named runsc');
    for (const { blankP50Ms, missP50Ms, dockerRunP50Ms, blankToDockerRun } of [measured.nodejs, measured.python]) {
      expect(blankP50Ms).toBeGreaterThan(0);
      expect(missP50Ms).toBeGreaterThan(0);
      expect(blankToDockerRun).toBeCloseTo(blankP50Ms / dockerRunP50Ms, 2);
    }
  }
  expect(figures.gvisorBlankToDockerRun).toBe(figures.gvisor?.nodejs.blankToDockerRun);
  expect(progress.at(-1)).toBe('stopping');
});

it('a bound that is missed is named', () => {
  const cell = {
    ...{ dockerRunP50Ms: 300, blankP50Ms: 10, blankP99Ms: 20, missP50Ms: 100, idleP50Ms: 1 },
    ...{ blankToDockerRun: 0.03, missToDockerRun: 0.3, blankPhasesMs: {} },
  };
  const report = (runc: object, gvisor: object | null): ColdStartReport =>
    ({
      runc: { nodejs: cell, python: { ...cell, ...runc } },
      gvisor: gvisor && { nodejs: cell, python: { ...cell, ...gvisor } },
    }) as ColdStartReport;
  expect(missedBounds(report({}, null))).toEqual([]);
  expect(missedBounds(report({ blankToDockerRun: 0.11 }, {}))).toEqual([
    'blankToDockerRun of python is 0.11, over 0.1',
  ]);
  expect(missedBounds(report({ missToDockerRun: 2, blankP50Ms: 61 }, { blankToDockerRun: 0.3 }))).toHaveLength(3);
});
