import type { FunctionRecord } from '@lambda-fleet/control-plane/functions/function-record';
import type { FunctionTable } from '@lambda-fleet/control-plane/functions/function-table';
import type { ResolvedVersion } from '@lambda-fleet/control-plane/functions/resolved-version';
import { VersionCache } from '@lambda-fleet/control-plane/functions/version-cache';
import type { Demand } from '@lambda-fleet/control-plane/scheduling/cluster-view';
import type { Random } from './random.js';

/** As in the trace of Azure Functions: a fifth of the functions has nine tenths of the calls, a hundredth more than a third of them. */
const RATE_SIGMA = 2.1;
/** What calls of one function take differs less than what functions take. */
const DURATION_MEDIAN_MS = 688;
const DURATION_SIGMA = 1.8;
const CALL_SIGMA = 0.5;
const DURATION_MS_MAX = 300_000;
const MEMORY_MB = [128, 128, 128, 256, 256, 512, 1_024] as const;
const BYTES_PER_MB = 1024 * 1024;

export interface SimulatedFunction {
  readonly index: number;
  readonly version: ResolvedVersion;
  readonly demand: Demand;
  readonly memoryBytes: number;
  readonly durationMs: number;
}

/** Functions with a heavy-tailed popularity, as a replica knows them: each is an entry of its resolve cache. */
export class FunctionMix {
  readonly #cumulative: Float64Array;

  private constructor(
    readonly functions: readonly SimulatedFunction[],
    /** Held so that what it holds is measured. */
    readonly cache: VersionCache,
    random: Random,
  ) {
    this.#cumulative = new Float64Array(functions.length);
    let sum = 0;
    for (let i = 0; i < functions.length; i += 1) {
      sum += random.lognormal(1, RATE_SIGMA);
      this.#cumulative[i] = sum;
    }
  }

  static async create(count: number, random: Random): Promise<FunctionMix> {
    // Of the table only the look-up by name is asked.
    const table = { find: async (_project: string, name: string) => recordOf(name, random) };
    const cache = new VersionCache(table as unknown as FunctionTable);
    const functions: SimulatedFunction[] = [];
    for (let index = 0; index < count; index += 1) {
      const version = await cache.resolve('default', `function-${index}`);
      const durationMs = random.lognormal(DURATION_MEDIAN_MS, DURATION_SIGMA);
      functions.push({
        ...{ index, version, durationMs },
        memoryBytes: version.spec.memoryMb * BYTES_PER_MB,
        demand: demandOf(version),
      });
    }
    return new FunctionMix(functions, cache, random);
  }

  /** The function that is called next. */
  pick(random: Random): SimulatedFunction {
    const point = random.uniform() * (this.#cumulative.at(-1) ?? 0);
    let [low, high] = [0, this.#cumulative.length - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#cumulative[middle] ?? 0) > point) high = middle;
      else low = middle + 1;
    }
    const picked = this.functions[low];
    if (picked === undefined) throw new Error('there are no functions');
    return picked;
  }
}

export function callDurationMs({ durationMs }: SimulatedFunction, random: Random): number {
  return Math.min(DURATION_MS_MAX, random.lognormal(durationMs, CALL_SIGMA));
}

/** As `invoke` makes it. */
function demandOf({ spec, isolation }: ResolvedVersion): Demand {
  return {
    ...{ functionId: spec.functionId, versionId: spec.versionId, runtime: spec.runtime, isolation },
    ...{ network: spec.network, architecture: '', labels: [], memoryMb: spec.memoryMb, concurrency: 1 },
    amount: { memoryBytes: spec.memoryMb * BYTES_PER_MB, milliSlots: 1_000 },
  };
}

function recordOf(name: string, random: Random): FunctionRecord {
  return {
    ...{ id: uuid(random), projectId: 'default', name, versionId: uuid(random), version: 1 },
    ...{ artifactSha256: `${uuid(random)}${uuid(random)}`.replaceAll('-', ''), artifactBytes: 10_000, image: null },
    ...{ runtime: random.below(3) === 0 ? 'python' : 'nodejs', handler: 'index.handler', isolation: 'auto' },
    ...{ memoryMb: MEMORY_MB[random.below(MEMORY_MB.length)], cpus: 1, timeoutMs: 900_000, initTimeoutMs: 10_000 },
    ...{ keepAliveMs: 600_000, environment: { STAGE: 'production', TABLE: `table-of-${name}` }, network: 'none' },
    ...{
      egressHosts: [],
      labels: {},
      concurrency: 1,
      keepRunning: false,
      provisionedConcurrency: 0,
      keepPayloads: true,
    },
    ...{ httpAuth: 'key', asyncMaxAgeMs: 0, createdAt: new Date(0), updatedAt: new Date(0) },
  } as unknown as FunctionRecord;
}

/** Of the seed, as everything here. */
function uuid(random: Random): string {
  const digits = Array.from({ length: 4 }, () =>
    random
      .below(2 ** 32)
      .toString(16)
      .padStart(8, '0'),
  ).join('');
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}
