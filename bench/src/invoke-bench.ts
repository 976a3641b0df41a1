import { availableParallelism } from 'node:os';
import type { BenchOptions } from './bench.js';
import { type Answer, KeepAliveClient } from './keep-alive-client.js';
import { parseServerTiming } from './server-timing.js';
import { median, percentile, rounded } from './statistics.js';
import { type Driver, startBareServer, startSystem } from './system-under-test.js';

const FUNCTION = 'echo';
const SOURCE = 'export const handler = async (event) => event;\n';
const PAYLOAD = Buffer.from(JSON.stringify({ name: 'World', numbers: [1, 2, 3], nested: { text: 'a warm call' } }));
/** Calls of each target before any is measured: the compilers of all processes on the path have done their work. */
const WARM_UP_CALLS = 500;

export interface InvokeBenchOptions extends BenchOptions {
  /** Rounds; each measures every target once, one after the other. */
  readonly pairs: number;
  /** Calls of each target in a round. */
  readonly calls: number;
}

/** Milliseconds. `p50` is the median of the rounds' medians and `p50Range` their extremes; `p99` is over all calls. */
export interface LatencyFigures {
  readonly p50: number;
  readonly p50Range: readonly [number, number];
  readonly p99: number;
}

export interface InvokeFigures {
  readonly bench: 'invoke';
  readonly machine: { readonly cpus: number; readonly node: string };
  /** What isolated the calls, as their receipts say. */
  readonly isolation: string;
  readonly pairs: number;
  readonly calls: number;
  readonly bare: LatencyFigures;
  readonly api: WarmFigures;
  readonly gateway: WarmFigures;
}

export interface WarmFigures extends LatencyFigures {
  /** Median of the time between the function's event written to its sandbox and its answer, from `server-timing`. */
  readonly runP50: number;
  /** p50 ÷ the bare server's p50. */
  readonly ratio: number;
  /** p50 − the handler's own time − the bare server's p50: what the platform adds to a warm call. */
  readonly addedMs: number;
  /** p50 − the bare server's p50, the way into the sandbox and back included. */
  readonly overBareMs: number;
}

interface Target {
  readonly name: string;
  call(): Promise<Answer>;
  /** Throws when the answer is not the one that was to be measured. */
  check(answer: Answer): void;
  /** One array of elapsed times for each round. */
  readonly rounds: number[][];
  readonly runs: number[];
}

/** Measures warm calls of an echo function beside a bare `node:http` server, interleaved, with one client. */
export async function benchInvoke(options: InvokeBenchOptions): Promise<InvokeFigures> {
  const releases: (() => Promise<void> | void)[] = [];
  try {
    options.onProgress(`starting a system of its own (driver ${options.driver})`);
    const system = await startSystem(options.driver, options.signal);
    releases.push(() => system.stop());
    const bare = await startBareServer();
    releases.push(() => bare.stop());

    const key = { authorization: `Bearer ${system.apiKey}` };
    const api = new KeepAliveClient(system.port, key);
    const gateway = new KeepAliveClient(system.port, { ...key, host: `${FUNCTION}.localhost` });
    const plain = new KeepAliveClient(bare.port, {});
    releases.push(...[api, gateway, plain].map((client) => () => client.close()));

    options.onProgress(`deploying ${FUNCTION}`);
    await prepare(api, options.driver);
    const targets = {
      bare: target('bare node:http', () => plain.call('POST', '/', PAYLOAD), checkEcho),
      api: target('API', () => api.call('POST', `/api/functions/${FUNCTION}/invocations`, PAYLOAD), checkWarmEcho),
      gateway: target('gateway', () => gateway.call('POST', '/', PAYLOAD), checkWarmEvent),
    };
    await measure(Object.values(targets), options);

    const bareFigures = latency(targets.bare);
    return {
      bench: 'invoke',
      machine: { cpus: availableParallelism(), node: process.versions.node },
      isolation: String((await targets.api.call()).headers['x-lambda-isolation']),
      pairs: options.pairs,
      calls: options.calls,
      bare: bareFigures,
      api: warm(targets.api, bareFigures),
      gateway: warm(targets.gateway, bareFigures),
    };
  } finally {
    options.onProgress('stopping');
    for (const release of releases.reverse()) await release();
  }
}

async function prepare(api: KeepAliveClient, driver: Driver): Promise<void> {
  // The figures are those of runc, so that they can be compared with others'.
  const isolation = driver === 'process' ? 'auto' : 'runc';
  const definition = { name: FUNCTION, runtime: 'nodejs', httpAuth: 'public', isolation, code: { source: SOURCE } };
  const created = await api.call('POST', '/api/functions', Buffer.from(JSON.stringify(definition)));
  if (created.status !== 201) throw new Error(`deploying answered ${created.status}: ${created.body.toString('utf8')}`);
}

function target(name: string, call: () => Promise<Answer>, check: (answer: Answer) => void): Target {
  return { name, call, check, rounds: [], runs: [] };
}

async function measure(targets: readonly Target[], options: InvokeBenchOptions): Promise<void> {
  options.onProgress(`warming up (${WARM_UP_CALLS} calls each)`);
  for (const { call } of targets) {
    for (let n = 0; n < WARM_UP_CALLS; n += 1) {
      options.signal.throwIfAborted();
      await call();
    }
  }
  for (let pair = 1; pair <= options.pairs; pair += 1) {
    options.onProgress(`round ${pair} of ${options.pairs} (${options.calls} calls each)`);
    for (const one of targets) await measureRound(one, options);
  }
}

async function measureRound(target: Target, { calls, signal }: InvokeBenchOptions): Promise<void> {
  const round: number[] = [];
  for (let n = 0; n < calls; n += 1) {
    signal.throwIfAborted();
    const answer = await target.call();
    target.check(answer);
    round.push(answer.elapsedMs);
    const run = parseServerTiming(String(answer.headers['server-timing'] ?? '')).get('run');
    if (run !== undefined) target.runs.push(run);
  }
  target.rounds.push(round);
}

function checkEcho(answer: Answer): void {
  if (answer.status !== 200 || !answer.body.equals(PAYLOAD)) throw unexpected(answer, 'the payload');
}

function checkWarmEcho(answer: Answer): void {
  checkEcho(answer);
  checkWarm(answer);
}

/** Through the gateway an echo function answers with the HTTP event, which holds the payload as its body. */
function checkWarmEvent(answer: Answer): void {
  const event: unknown = JSON.parse(answer.body.toString('utf8'));
  const body = typeof event === 'object' && event !== null && 'body' in event ? event.body : undefined;
  if (answer.status !== 200 || body !== PAYLOAD.toString('utf8')) throw unexpected(answer, 'an event with the payload');
  checkWarm(answer);
}

function checkWarm(answer: Answer): void {
  const start = answer.headers['x-lambda-start'];
  if (start !== 'warm') throw new Error(`a call was to be warm and its receipt says ${String(start)}`);
  if (!parseServerTiming(String(answer.headers['server-timing'] ?? '')).has('run')) {
    throw new Error('a receipt does not say how long the handler ran');
  }
}

function unexpected(answer: Answer, wanted: string): Error {
  return new Error(
    `an answer was not ${wanted}: status ${answer.status}, ${answer.body.subarray(0, 500).toString('utf8')}`,
  );
}

function latency({ rounds }: Target): LatencyFigures {
  const medians = rounds.map(median);
  return {
    p50: rounded(median(medians)),
    p50Range: [rounded(Math.min(...medians)), rounded(Math.max(...medians))],
    p99: rounded(percentile(rounds.flat(), 99)),
  };
}

function warm(target: Target, bare: LatencyFigures): WarmFigures {
  const figures = latency(target);
  const runP50 = rounded(median(target.runs));
  return {
    ...figures,
    runP50,
    ratio: rounded(figures.p50 / bare.p50),
    addedMs: rounded(figures.p50 - runP50 - bare.p50),
    overBareMs: rounded(figures.p50 - bare.p50),
  };
}
