import { expect, it } from 'vitest';
import { benchNeighbours, type NeighboursReport } from './neighbours-bench.js';
import { missedBounds } from './neighbours-report.js';

it('a neighbour is answered beside hostile functions under every isolation, and these end as they should', async () => {
  const only = ['fork bomb', 'memory outside the heap', '10⁶ log lines', 'process exit', 'forged frames'];
  const progress: string[] = [];
  const { rows } = await benchNeighbours({
    ...{ signal: new AbortController().signal, driver: 'docker', rounds: 1, seconds: 1, only },
    onProgress: (line) => progress.push(line),
  });
  expect(rows.map(({ hostile, isolation }) => `${hostile}, ${isolation}`).sort()).toEqual(
    only.flatMap((name) => [`${name}, gvisor`, `${name}, runc`]).sort(),
  );
  for (const row of rows) {
    expect(row.calls).toBeGreaterThan(0);
    expect(row.hostileCalls).toBeGreaterThan(0);
    expect({ of: row.hostile, wrongEnds: row.wrongEnds }).toEqual({ of: row.hostile, wrongEnds: [] });
    expect(row.p50Ratio).toBeCloseTo(row.p50Ms / row.quietP50Ms, 1);
  }
  expect(progress.at(-1)).toBe('stopping');
}, 240_000);

it('a bound that is missed is named', () => {
  const row = { isolation: 'runc', hostile: 'exit', p50Ratio: 1, p99Ms: 10, wrongEnds: [] as string[] };
  const report = (change: object) => ({ rows: [{ ...row, ...change }] }) as unknown as NeighboursReport;
  expect(missedBounds(report({}))).toEqual([]);
  expect(missedBounds(report({ p50Ratio: 2 }))).toEqual(['exit, runc: p50 is 2 × its quiet value']);
  expect(missedBounds(report({ p99Ms: 50 }))).toEqual(['exit, runc: p99 is 50 ms']);
  expect(missedBounds(report({ wrongEnds: [''] }))).toEqual(['exit, runc: a call ended with a result']);
});
