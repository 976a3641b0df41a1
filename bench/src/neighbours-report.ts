import type { Bench } from './bench.js';
import { benchNeighbours, type NeighboursReport } from './neighbours-bench.js';
import { renderTable } from './table.js';

/** Whatever one function does, others notice no more of it than this. */
const P50_RATIO_MAX = 2;
const P99_MS_MAX = 50;

export const neighbours: Bench = {
  about: 'warm calls of a function while hostile ones run beside it, and what these end with',
  counts: {
    rounds: { initial: 2, about: 'rounds, each with a quiet and a hostile phase' },
    seconds: { initial: 3, about: 'seconds of each phase' },
  },
  run: async (options, { rounds = 0, seconds = 0 }) => {
    const figures = await benchNeighbours({ ...options, rounds, seconds });
    const missed = missedBounds(figures);
    const text = describe(figures);
    return missed.length === 0 ? { figures, text } : { figures, text, failure: missed.join('; ') };
  },
};

export function missedBounds({ rows }: NeighboursReport): string[] {
  return rows.flatMap(({ hostile, isolation, p50Ratio, p99Ms, wrongEnds }) => [
    ...(p50Ratio >= P50_RATIO_MAX ? [`${hostile}, ${isolation}: p50 is ${p50Ratio} × its quiet value`] : []),
    ...(p99Ms >= P99_MS_MAX ? [`${hostile}, ${isolation}: p99 is ${p99Ms} ms`] : []),
    ...wrongEnds.map((end) => `${hostile}, ${isolation}: a call ended with ${end || 'a result'}`),
  ]);
}

function describe({ rows, machine, rounds, seconds }: NeighboursReport): string {
  const ms = (value: number) => value.toFixed(2);
  return [
    renderTable([
      [
        'a neighbour’s calls, milliseconds',
        'quiet p50',
        'p50',
        '÷ quiet',
        'quiet p99',
        'p99',
        'calls',
        'hostile calls',
      ],
      ...rows.map((row) => [
        `${row.hostile}, ${row.isolation}`,
        ms(row.quietP50Ms),
        ms(row.p50Ms),
        ms(row.p50Ratio),
        ms(row.quietP99Ms),
        ms(row.p99Ms),
        String(row.calls),
        String(row.hostileCalls),
      ]),
    ]),
    '',
    `${rounds} alternating quiet and hostile phases of ${seconds} s, a call every few ms; ${machine.cpus} cores, Node ${machine.node}`,
    `Bounds: p50 under ${P50_RATIO_MAX} × its quiet value, p99 under ${P99_MS_MAX} ms, and the right error for every hostile call.`,
    '',
  ].join('\n');
}
