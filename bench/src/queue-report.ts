import type { Bench } from './bench.js';
import { benchQueue, type QueueFigures } from './queue-bench.js';
import { renderTable } from './table.js';

/** What the queue is to reach on two cores. */
const BOUNDS = { acceptedPerSecond: 1_000, acceptP50Ms: 5, startP50Ms: 15, claimRate: 0.5 } as const;

export const queue: Bench = {
  about: 'async invocations: accepted per second, from 202 to running, and claims from a deep queue',
  counts: {
    seconds: { initial: 20, about: 'how long invocations are handed in' },
    clients: { initial: 10, about: 'clients that hand in, one request each at a time' },
    starts: { initial: 300, about: 'invocations whose start is timed' },
    depth: { initial: 1_000_000, about: 'rows of the deep queue' },
    rounds: { initial: 9, about: 'rounds of claiming from the deep and from the shallow queue' },
  },
  run: async (options, { seconds = 0, clients = 0, starts = 0, depth = 0, rounds = 0 }) => {
    const figures = await benchQueue({ ...options, seconds, clients, starts, depth, rounds });
    return { figures, text: describe(figures), failure: missed(figures) };
  },
};

function describe(figures: QueueFigures): string {
  const row = (what: string, value: number, bound: string) => [what, String(value), bound];
  return [
    renderTable([
      ['', 'measured', 'bound'],
      row('accepted per second', figures.acceptedPerSecond, `≥ ${BOUNDS.acceptedPerSecond}`),
      row('request to 202, p50 ms', figures.acceptP50Ms, `< ${BOUNDS.acceptP50Ms}`),
      row('request to 202, p99 ms', figures.acceptP99Ms, ''),
      row('run to their end per second', figures.endedPerSecond, ''),
      row('202 to running, p50 ms', figures.startP50Ms, `< ${BOUNDS.startP50Ms}`),
      row('202 to running, p90 ms', figures.startP90Ms, ''),
      row('claimed per second of 1,000 queued', figures.claimedPerSecondOfThousand, ''),
      row(`claimed per second of ${figures.depth} queued`, figures.claimedPerSecond, ''),
      row('ratio of the claims', figures.claimRateMillionToThousand, `> ${BOUNDS.claimRate}`),
    ]),
    '',
    `${figures.accepted} invocations, ${figures.clients} clients, ${figures.machine.cpus} cores, Node ${figures.machine.node}`,
    '',
  ].join('\n');
}

function missed(figures: QueueFigures): string | undefined {
  const bad = [
    figures.acceptedPerSecond < BOUNDS.acceptedPerSecond && 'accepted per second',
    figures.acceptP50Ms >= BOUNDS.acceptP50Ms && 'request to 202',
    figures.startP50Ms >= BOUNDS.startP50Ms && '202 to running',
    figures.claimRateMillionToThousand <= BOUNDS.claimRate && 'ratio of the claims',
  ].filter((what) => what !== false);
  return bad.length === 0 ? undefined : bad.join(', ');
}
