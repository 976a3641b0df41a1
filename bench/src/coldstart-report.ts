import type { Bench } from './bench.js';
import { benchColdStart, type ColdStartReport, type RuntimeFigures } from './coldstart-bench.js';
import { renderTable } from './table.js';

/** What the project promises of a machine like the one it is developed on; ratios, because machines differ. */
const BOUNDS = { blankToDockerRun: 0.1, blankP50Ms: 60, missToDockerRun: 1.2, gvisorBlankToDockerRun: 0.2 } as const;

export const coldstart: Bench = {
  about: 'first calls from a blank and without one, and calls of frozen sandboxes, beside docker run of the same image',
  counts: { rounds: { initial: 15, about: 'rounds, each measuring everything once' } },
  run: async (options, { rounds = 0 }) => {
    const figures = await benchColdStart({ ...options, rounds });
    const missed = missedBounds(figures);
    const text = describe(figures);
    return missed.length === 0 ? { figures, text } : { figures, text, failure: missed.join(', ') };
  },
};

export function missedBounds({ runc, gvisor }: ColdStartReport): string[] {
  const missed: string[] = [];
  const check = (what: string, value: number, bound: number): void => {
    if (value > bound) missed.push(`${what} is ${value}, over ${bound}`);
  };
  for (const runtime of ['nodejs', 'python'] as const) {
    check(`blankToDockerRun of ${runtime}`, runc[runtime].blankToDockerRun, BOUNDS.blankToDockerRun);
    check(`blankP50Ms of ${runtime}`, runc[runtime].blankP50Ms, BOUNDS.blankP50Ms);
    check(`missToDockerRun of ${runtime}`, runc[runtime].missToDockerRun, BOUNDS.missToDockerRun);
    const ratio = gvisor?.[runtime].blankToDockerRun;
    if (ratio !== undefined) check(`gvisorBlankToDockerRun of ${runtime}`, ratio, BOUNDS.gvisorBlankToDockerRun);
  }
  return missed;
}

function describe(figures: ColdStartReport): string {
  const rows = (isolation: string, measured: RuntimeFigures | null): string[][] =>
    measured === null
      ? []
      : (['nodejs', 'python'] as const).map((runtime) => {
          const of = measured[runtime];
          return [
            `${runtime}, ${isolation}`,
            of.dockerRunP50Ms.toFixed(0),
            of.blankP50Ms.toFixed(1),
            of.blankToDockerRun.toFixed(3),
            of.missP50Ms.toFixed(0),
            of.missToDockerRun.toFixed(2),
            of.idleP50Ms.toFixed(2),
            ['queue', 'sandbox', 'init', 'run'].map((phase) => (of.blankPhasesMs[phase] ?? 0).toFixed(1)).join(' + '),
          ];
        });
  return [
    renderTable([
      [
        'milliseconds',
        'docker run',
        'blank',
        '÷ run',
        'no blank',
        '÷ run',
        'frozen',
        'blank: queue + sandbox + init + run',
      ],
      ...rows('runc', figures.runc),
      ...rows('gvisor', figures.gvisor),
    ]),
    '',
    `medians of ${figures.rounds} interleaved rounds, request to response; ${figures.machine.cpus} cores, Node ${figures.machine.node}`,
    `${figures.gvisor === null ? 'No node has gVisor: not measured. ' : ''}Bounds: blank at most 0.1 × docker run and 60 ms, ` +
      'no blank 1.2 ×, blank under gVisor 0.2 ×.',
    '',
  ].join('\n');
}
