import type { Bench } from './bench.js';
import { benchScale, type ScaleFigures, type SizeFigures } from './scale-bench.js';
import { renderTable } from './table.js';

/** What placing may cost in the largest fleet, and beside the smallest. */
const BOUNDS = { decisionP50Us: 50, decisionP99Us: 1_000, againRatio: 2, memoryMb: 1_536, floorsMs: 50 } as const;

export const scale: Bench = {
  about: 'placement in simulated fleets of up to 10,000 nodes and 100,000 functions, and other policies beside it',
  counts: {
    nodes: { initial: 10_000, about: 'nodes of the largest simulated fleet' },
    decisions: { initial: 100_000, about: 'placements that are timed in each fleet' },
    minutes: { initial: 60, about: 'virtual minutes that each policy is watched for' },
  },
  run: async (options, { nodes = 0, decisions = 0, minutes = 0 }) => {
    const figures = await benchScale({ ...options, nodes, decisions, minutes });
    return { figures, text: describe(figures), failure: missed(figures) };
  },
};

function describe(figures: ScaleFigures): string {
  const row = (what: string, bound: string, of: (size: SizeFigures) => number) => [
    what,
    ...figures.sizes.map((size) => of(size).toLocaleString('en')),
    bound,
  ];
  return [
    renderTable([
      ['nodes', ...figures.sizes.map(({ nodes }) => nodes.toLocaleString('en')), 'bound'],
      row('functions', '', (size) => size.functions),
      row('decisions per second', '', (size) => size.decisionsPerSecond),
      row('decision, p50 µs', `< ${BOUNDS.decisionP50Us}`, (size) => size.decisionP50Us),
      row('decision, p99 µs', `< ${BOUNDS.decisionP99Us}`, (size) => size.decisionP99Us),
      row('the same decision again, p50 µs', '', (size) => size.againP50Us),
      row('report of a node, p50 µs', '', (size) => size.reportP50Us),
      row('1,000 floors, ms', `< ${BOUNDS.floorsMs}`, (size) => size.floorsMs),
      row('warm share', '', (size) => size.warmShare),
      row('slots in use', '', (size) => size.usedShare),
      row('without a place', '', (size) => size.refused),
      row('memory, MB', `< ${BOUNDS.memoryMb.toLocaleString('en')}`, (size) => size.memoryMb),
      row('growth of the process, MB', '', (size) => size.rssGrowthMb),
      ['largest to smallest, again', '', '', String(figures.againRatio), `≤ ${BOUNDS.againRatio}`],
      ['largest to smallest, at first', '', '', String(figures.decisionRatio), ''],
    ]),
    '',
    renderTable([
      ['ranking', 'keep-alive', 'warm', 'cold, median function', 'idle GB'],
      ...figures.policies.map(({ ranking, keepAlive, warmShare, coldShareOfMedianFunction, idleGb }) => [
        ranking,
        keepAlive,
        `${(warmShare * 100).toFixed(1)} %`,
        `${(coldShareOfMedianFunction * 100).toFixed(1)} %`,
        idleGb.toFixed(1),
      ]),
    ]),
    '',
    `bounds: ${missed(figures) ?? 'all met'}; ${figures.machine.cpus} cores, Node ${figures.machine.node}`,
    '',
  ].join('\n');
}

/** The bounds are those of the largest fleet; floors are bound in every one. */
function missed({ sizes, againRatio }: ScaleFigures): string | undefined {
  const largest = sizes.at(-1);
  if (largest === undefined) return 'nothing was measured';
  const bad = [
    largest.decisionP50Us >= BOUNDS.decisionP50Us && 'decision, p50',
    largest.decisionP99Us >= BOUNDS.decisionP99Us && 'decision, p99',
    againRatio > BOUNDS.againRatio && 'decision again, largest to smallest',
    largest.memoryMb >= BOUNDS.memoryMb && 'memory',
    largest.floorsMs >= BOUNDS.floorsMs && 'floors',
  ].filter((what) => what !== false);
  return bad.length === 0 ? undefined : bad.join(', ');
}
