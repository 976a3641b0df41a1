import type { BenchOptions } from '../bench.js';
import { median, rounded } from '../statistics.js';
import { FunctionMix } from './function-mix.js';
import { fixedKeepAlive, histogramKeepAlive, type KeepAlive } from './keep-alive-policies.js';
import { Random } from './random.js';
import { RANKINGS } from './ranking-policies.js';
import { SimulatedFleet } from './simulated-fleet.js';

const NODES = 50;
const FUNCTIONS = 2_000;
const CALLS_PER_SECOND = 40;
const SEED = 21;
const GIGABYTE = 1024 ** 3;

export interface PolicyFigures {
  readonly ranking: string;
  readonly keepAlive: string;
  readonly warmShare: number;
  /** Of the calls of the median function, of those that were called. */
  readonly coldShareOfMedianFunction: number;
  /** Memory of idle sandboxes, gigabytes, on average. */
  readonly idleGb: number;
}

/** The same calls, on the same nodes, under each ranking with the product's keep-alive, and under each keep-alive with its ranking. */
export async function comparePolicies(
  options: Pick<BenchOptions, 'signal' | 'onProgress'> & { readonly minutes: number },
): Promise<PolicyFigures[]> {
  const mix = await FunctionMix.create(FUNCTIONS, new Random(SEED));
  const figures: PolicyFigures[] = [];
  const [ours = ''] = Object.keys(RANKINGS);
  for (const ranking of Object.keys(RANKINGS)) {
    figures.push(await watch(mix, ranking, fixedKeepAlive(10), options));
  }
  for (const keepAlive of [fixedKeepAlive(1), histogramKeepAlive(FUNCTIONS)]) {
    figures.push(await watch(mix, ours, keepAlive, options));
  }
  return figures;
}

async function watch(
  mix: FunctionMix,
  ranking: string,
  keepAlive: KeepAlive,
  { signal, onProgress, minutes }: Pick<BenchOptions, 'signal' | 'onProgress'> & { readonly minutes: number },
): Promise<PolicyFigures> {
  onProgress(`ranking ${ranking}, keep-alive ${keepAlive.name}: ${minutes} virtual minutes`);
  const rank = RANKINGS[ranking]?.();
  const fleet = new SimulatedFleet({
    ...{ nodes: NODES, mix, callsPerSecond: CALLS_PER_SECOND, seed: SEED, keepAlive, rank, signal },
  });
  try {
    await fleet.runMs((minutes * 60_000) / 3);
    fleet.forgetFigures();
    await fleet.runMs((minutes * 60_000 * 2) / 3);
    const { calls, warm, callsOf, coldOf, idleByteMs, elapsedMs } = fleet.figures;
    const coldShares = Array.from(callsOf, (count, index) => (coldOf[index] ?? 0) / count).filter(Number.isFinite);
    return {
      ranking,
      keepAlive: keepAlive.name,
      warmShare: rounded(warm / calls),
      coldShareOfMedianFunction: rounded(median(coldShares)),
      idleGb: rounded(idleByteMs / elapsedMs / GIGABYTE),
    };
  } finally {
    fleet.close();
  }
}
