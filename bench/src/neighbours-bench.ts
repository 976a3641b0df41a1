import { availableParallelism } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import type { BenchOptions } from './bench.js';
import { type HostileFunction, readHostileFunctions } from './hostile-functions.js';
import { type Answer, KeepAliveClient } from './keep-alive-client.js';
import { median, percentile, rounded } from './statistics.js';
import { type RunningSystem, startSystem } from './system-under-test.js';

const NEIGHBOUR = 'export const handler = async (event) => event;\n';
const MEMORY_MB = 128;
const WARM_UP_CALLS = 300;
/** Between two calls of the neighbour: a function that is called often, and leaves the machine to others. */
const PAUSE_MS = 5;
/** Until what a hostile function left has been removed. */
const SETTLE_MS = 500;
const DEPLOY_TRIES = 20;

type Isolation = 'runc' | 'gvisor';

/** Milliseconds of a neighbour's calls, request to response. */
export interface NeighbourFigures {
  readonly isolation: Isolation;
  readonly hostile: string;
  /** Calls of the neighbour meanwhile, and of the hostile function. */
  readonly calls: number;
  readonly hostileCalls: number;
  readonly quietP50Ms: number;
  readonly quietP99Ms: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** p50Ms ÷ quietP50Ms. */
  readonly p50Ratio: number;
  /** What the hostile function's calls ended with that they should not have. */
  readonly wrongEnds: readonly string[];
}

export interface NeighboursReport {
  readonly bench: 'neighbours';
  readonly machine: { readonly cpus: number; readonly node: string };
  readonly rounds: number;
  readonly seconds: number;
  /** The worst of all rows. */
  readonly p50Ratio: number;
  readonly p99Ms: number;
  readonly rows: readonly NeighbourFigures[];
}

export interface NeighboursOptions extends BenchOptions {
  readonly rounds: number;
  /** Of each quiet and each hostile phase. */
  readonly seconds: number;
  /** Names of hostile functions; default all. */
  readonly only?: readonly string[];
}

/**
 * Measures a small function that is called all the time while one hostile function after the other is called beside it, on
 * the same node and under the same isolation. Quiet and hostile phases alternate.
 */
export async function benchNeighbours(options: NeighboursOptions): Promise<NeighboursReport> {
  const { signal, onProgress, rounds, seconds, only } = options;
  const hostiles = (await readHostileFunctions()).filter(({ name }) => only?.includes(name) ?? true);
  let system: RunningSystem | undefined;
  try {
    onProgress('starting a system of its own');
    system = await startSystem(options.driver, signal);
    const offered = await isolationOf(system);
    const isolations = (['runc', 'gvisor'] as const).filter((isolation) => offered.has(isolation));
    if (isolations.length === 0) throw new Error('no node isolates: this benchmark needs a Docker engine');
    const rows: NeighbourFigures[] = [];
    for (const isolation of isolations) {
      const neighbour = await Neighbour.start(system, isolation, signal);
      for (const hostile of hostiles) {
        onProgress(`${hostile.name} under ${isolation}`);
        rows.push(await measure(system, neighbour, hostile, options));
      }
      neighbour.close();
    }
    return {
      bench: 'neighbours',
      machine: { cpus: availableParallelism(), node: process.versions.node },
      rounds,
      seconds,
      p50Ratio: Math.max(...rows.map(({ p50Ratio }) => p50Ratio)),
      p99Ms: Math.max(...rows.map(({ p99Ms }) => p99Ms)),
      rows,
    };
  } finally {
    onProgress('stopping');
    await system?.stop();
  }
}

async function measure(
  system: RunningSystem,
  neighbour: Neighbour,
  hostile: HostileFunction,
  { rounds, seconds, signal }: NeighboursOptions,
): Promise<NeighbourFigures> {
  const caller = await HostileCaller.start(system, hostile, neighbour.isolation);
  const quiet: number[] = [];
  const beside: number[] = [];
  for (let round = 0; round < rounds; round += 1) {
    quiet.push(...(await neighbour.callFor(seconds * 1_000)));
    const calling = caller.keepCalling(signal);
    beside.push(...(await neighbour.callFor(seconds * 1_000)));
    await calling.stop();
    await sleep(SETTLE_MS);
  }
  await caller.close();
  const quietP50Ms = median(quiet);
  const p50Ms = median(beside);
  return {
    isolation: neighbour.isolation,
    hostile: hostile.name,
    calls: beside.length,
    hostileCalls: caller.calls,
    quietP50Ms: rounded(quietP50Ms),
    quietP99Ms: rounded(percentile(quiet, 99)),
    p50Ms: rounded(p50Ms),
    p99Ms: rounded(percentile(beside, 99)),
    p50Ratio: rounded(p50Ms / quietP50Ms),
    wrongEnds: caller.wrongEnds,
  };
}

/** A well-behaved function that somebody calls all the time. */
class Neighbour {
  private constructor(
    private readonly client: KeepAliveClient,
    private readonly path: string,
    private readonly signal: AbortSignal,
    readonly isolation: Isolation,
  ) {}

  static async start(system: RunningSystem, isolation: Isolation, signal: AbortSignal): Promise<Neighbour> {
    const client = clientOf(system);
    const name = `neighbour-${isolation}`;
    const definition = { name, runtime: 'nodejs', memoryMb: MEMORY_MB, isolation, code: { source: NEIGHBOUR } };
    await deploy(client, definition);
    const neighbour = new Neighbour(client, `/api/functions/${name}/invocations`, signal, isolation);
    for (let call = 0; call < WARM_UP_CALLS; call += 1) await neighbour.#call();
    return neighbour;
  }

  async callFor(ms: number): Promise<number[]> {
    const samples: number[] = [];
    const until = performance.now() + ms;
    while (performance.now() < until) {
      this.signal.throwIfAborted();
      samples.push(await this.#call());
      await sleep(PAUSE_MS);
    }
    return samples;
  }

  close(): void {
    this.client.close();
  }

  async #call(): Promise<number> {
    const answer = await this.client.call('POST', this.path, json({ name: 'World' }));
    expectStatus(answer, 200);
    return answer.elapsedMs;
  }
}

/** Calls a hostile function again and again. */
class HostileCaller {
  calls = 0;
  readonly wrongEnds: string[] = [];

  private constructor(
    private readonly client: KeepAliveClient,
    private readonly hostile: HostileFunction,
    private readonly definition: { readonly name: string },
  ) {}

  static async start(system: RunningSystem, hostile: HostileFunction, isolation: Isolation): Promise<HostileCaller> {
    const client = clientOf(system);
    const { runtime, source, timeoutMs } = hostile;
    const definition = {
      ...{ name: `hostile-${isolation}`, runtime, isolation, memoryMb: MEMORY_MB, timeoutMs, code: { source } },
      ...(hostile.whileLoading ? { initTimeoutMs: timeoutMs } : {}),
    };
    if (!hostile.whileLoading) await deploy(client, definition);
    return new HostileCaller(client, hostile, definition);
  }

  keepCalling(signal: AbortSignal): { stop(): Promise<void> } {
    let stopped = false;
    const calling = (async () => {
      while (!stopped && !signal.aborted) await this.#call();
    })();
    // Awaited by stop, which may come after it has failed.
    calling.catch(() => {});
    return {
      stop: async () => {
        stopped = true;
        await calling;
      },
    };
  }

  async close(): Promise<void> {
    if (!this.hostile.whileLoading) await this.client.call('DELETE', `/api/functions/${this.definition.name}`);
    this.client.close();
  }

  async #call(): Promise<void> {
    const { event, whileLoading, ends } = this.hostile;
    const answer = whileLoading
      ? await this.client.call('POST', '/api/functions/test', json({ ...this.definition, name: undefined, event }))
      : await this.client.call('POST', `/api/functions/${this.definition.name}/invocations`, json(event));
    this.calls += 1;
    const end = errorTypeOf(answer);
    if (!ends.includes(end) && !this.wrongEnds.includes(end)) this.wrongEnds.push(end);
  }
}

/** Empty where there is a result. */
function errorTypeOf({ status, body }: Answer): string {
  const { error } = JSON.parse(body.toString() || 'null') ?? {};
  if (error === undefined || error === null) return status === 200 ? '' : `status ${status}`;
  return String(error.errorType ?? error.details?.errorType ?? error.code);
}

async function isolationOf(system: RunningSystem): Promise<ReadonlySet<string>> {
  const client = clientOf(system);
  try {
    const { nodes } = JSON.parse((await client.call('GET', '/api/nodes')).body.toString()) as {
      readonly nodes: readonly { readonly isolation: readonly string[] }[];
    };
    return new Set(nodes.flatMap(({ isolation }) => isolation));
  } finally {
    client.close();
  }
}

/** What the hostile function before has logged may keep the database busy for a while. */
async function deploy(client: KeepAliveClient, definition: object): Promise<void> {
  for (let tries = 1; ; tries += 1) {
    const answer = await client.call('POST', '/api/functions', json(definition));
    if (answer.status === 201) return;
    if (answer.status !== 503 || tries === DEPLOY_TRIES) expectStatus(answer, 201);
    await sleep(SETTLE_MS);
  }
}

function clientOf({ port, apiKey }: RunningSystem): KeepAliveClient {
  return new KeepAliveClient(port, { authorization: `Bearer ${apiKey}` });
}

function expectStatus({ status, body }: Answer, expected: number): void {
  if (status !== expected) throw new Error(`a call answered ${status}: ${body.subarray(0, 500).toString()}`);
}

const json = (value: object): Buffer => Buffer.from(JSON.stringify(value));
