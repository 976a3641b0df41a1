import { availableParallelism } from 'node:os';
import { assignFloors } from '@lambda-fleet/control-plane/scheduling/assign-floors';
import type { BenchOptions } from './bench.js';
import { FunctionMix } from './scale/function-mix.js';
import { heldMemory } from './scale/held-memory.js';
import { fixedKeepAlive } from './scale/keep-alive-policies.js';
import { comparePolicies, type PolicyFigures } from './scale/policy-comparison.js';
import { Random } from './scale/random.js';
import { SimulatedFleet } from './scale/simulated-fleet.js';
import { median, percentile, rounded } from './statistics.js';

/** Per node, so that fleets of all sizes are equally busy: about half of their slots, and more functions than fit in memory. */
const FUNCTIONS_PER_NODE = 10;
const CALLS_PER_NODE_SECOND = 1.6;
/** Virtual time in which a fleet fills with sandboxes before anything is measured. */
const FILL_MS = 30_000;
const FLOORS = 1_000;
const FLOOR_SANDBOXES = 5;
const SEED = 20;
const MEGABYTE = 1024 * 1024;

export interface ScaleBenchOptions extends BenchOptions {
  /** Of the largest fleet; the others have a tenth and a hundredth. */
  readonly nodes: number;
  /** Placements that are timed in each fleet. */
  readonly decisions: number;
  /** Virtual minutes that each policy is watched for. */
  readonly minutes: number;
}

export interface SizeFigures {
  readonly nodes: number;
  readonly functions: number;
  readonly decisionsPerSecond: number;
  /** Placements, microseconds: from the demand to the reservation. */
  readonly decisionP50Us: number;
  readonly decisionP99Us: number;
  /** The same placement right after it, which finds everything in the processor's caches: what the deciding itself costs. */
  readonly againP50Us: number;
  /** What a report of a node costs the replica once it is decoded, microseconds. */
  readonly reportP50Us: number;
  /** Distributing a thousand floors over the nodes, milliseconds. */
  readonly floorsMs: number;
  readonly warmShare: number;
  /** Calls that found no node with room. */
  readonly refused: number;
  /** Slots in use at the end. */
  readonly usedShare: number;
  /** What the replica's knowledge and the simulation of the nodes hold together. */
  readonly memoryMb: number;
  readonly rssGrowthMb: number;
}

export interface ScaleFigures {
  readonly bench: 'scale';
  readonly machine: { readonly cpus: number; readonly node: string };
  readonly sizes: readonly SizeFigures[];
  /** The median decision in the largest fleet over that in the smallest: what is decided again, and at first. */
  readonly againRatio: number;
  readonly decisionRatio: number;
  readonly policies: readonly PolicyFigures[];
}

/** Measures what placing costs in fleets of three sizes, and what other policies would make of the same calls. */
export async function benchScale(options: ScaleBenchOptions): Promise<ScaleFigures> {
  const sizes: SizeFigures[] = [];
  for (const part of [100, 10, 1]) {
    sizes.push(await measureSize(Math.max(1, Math.round(options.nodes / part)), options));
  }
  const [smallest, largest] = [sizes[0], sizes.at(-1)];
  if (smallest === undefined || largest === undefined) throw new Error('no fleet was measured');
  return {
    bench: 'scale',
    machine: { cpus: availableParallelism(), node: process.versions.node },
    sizes,
    againRatio: rounded(largest.againP50Us / smallest.againP50Us),
    decisionRatio: rounded(largest.decisionP50Us / smallest.decisionP50Us),
    policies: await comparePolicies(options),
  };
}

async function measureSize(nodes: number, { decisions, signal, onProgress }: ScaleBenchOptions): Promise<SizeFigures> {
  const functions = nodes * FUNCTIONS_PER_NODE;
  onProgress(`${nodes} nodes, ${functions} functions: filling`);
  const before = heldMemory();
  const mix = await FunctionMix.create(functions, new Random(SEED));
  const callsPerSecond = nodes * CALLS_PER_NODE_SECOND;
  const fleet = new SimulatedFleet({ nodes, mix, callsPerSecond, seed: SEED, keepAlive: fixedKeepAlive(10), signal });
  try {
    await fleet.runMs(FILL_MS);
    fleet.forgetFigures();
    onProgress(`${nodes} nodes, ${functions} functions: timing ${decisions} decisions`);
    await fleet.timeDecisions(decisions);
    const { calls, warm, refused, decisionUs, againUs, reportUs } = fleet.figures;
    const floorsMs = timeFloors(fleet, mix);
    const { milliSlotsUsed, milliSlotsTotal } = fleet.view;
    fleet.forgetFigures();
    const after = heldMemory();
    return {
      nodes,
      functions,
      decisionsPerSecond: Math.round((decisionUs.length * 1e6) / decisionUs.reduce((sum, us) => sum + us, 0)),
      decisionP50Us: rounded(median(decisionUs)),
      decisionP99Us: rounded(percentile(decisionUs, 99)),
      againP50Us: rounded(median(againUs)),
      reportP50Us: rounded(median(reportUs)),
      floorsMs,
      warmShare: rounded(warm / calls),
      refused,
      usedShare: rounded(milliSlotsUsed / milliSlotsTotal),
      memoryMb: Math.round((after.bytes - before.bytes) / MEGABYTE),
      rssGrowthMb: Math.round((after.rssBytes - before.rssBytes) / MEGABYTE),
    };
  } finally {
    fleet.close();
  }
}

function timeFloors({ view }: SimulatedFleet, { functions }: FunctionMix): number {
  const startedAt = performance.now();
  for (let n = 0; n < FLOORS; n += 1) {
    const version = functions[n % functions.length]?.version;
    if (version !== undefined) assignFloors(view, version.spec, 'runc', FLOOR_SANDBOXES, []);
  }
  return rounded(performance.now() - startedAt);
}
