import { availableParallelism } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import type { BenchOptions } from './bench.js';
import { type ClaimRates, measureClaimRates } from './claim-rate.js';
import { KeepAliveClient } from './keep-alive-client.js';
import { median, percentile, rounded } from './statistics.js';
import { type RunningSystem, startSystem } from './system-under-test.js';

const FUNCTION = 'clock';
/** Answers when it began, on the clock that all processes of the machine share. */
const SOURCE = 'export const handler = async () => performance.timeOrigin + performance.now();\n';
const PAYLOAD = Buffer.from(JSON.stringify({ name: 'World', numbers: [1, 2, 3], nested: { text: 'an async call' } }));
const INVOCATIONS = `/api/functions/${FUNCTION}/invocations?mode=async`;

const ENDED_DEADLINE_MS = 120_000;

export interface QueueBenchOptions extends BenchOptions {
  /** How long invocations are handed in, seconds. */
  readonly seconds: number;
  readonly clients: number;
  /** Invocations whose start is timed, one after the other. */
  readonly starts: number;
  /** Rows of the deep queue. */
  readonly depth: number;
  /** Rounds of claiming. */
  readonly rounds: number;
}

export interface QueueFigures {
  readonly bench: 'queue';
  readonly machine: { readonly cpus: number; readonly node: string };
  readonly clients: number;
  readonly accepted: number;
  readonly acceptedPerSecond: number;
  /** From the request to its 202, milliseconds. */
  readonly acceptP50Ms: number;
  readonly acceptP99Ms: number;
  /** Run to their end per second, from the first one that was handed in until the queue was empty. */
  readonly endedPerSecond: number;
  /** From the 202 to the first line of the handler, with nothing else to do. Milliseconds. */
  readonly startP50Ms: number;
  readonly startP90Ms: number;
  readonly depth: number;
  readonly claimedPerSecond: number;
  readonly claimedPerSecondOfThousand: number;
  readonly claimRateMillionToThousand: number;
}

/** Measures the queue of async invocations: its door, its way to a sandbox, and its claims when it is deep. */
export async function benchQueue(options: QueueBenchOptions): Promise<QueueFigures> {
  const { signal, onProgress } = options;
  onProgress(`starting a system of its own (driver ${options.driver})`);
  const system = await startSystem(options.driver, signal, {
    LAMBDA_ASYNC_QUEUED_MAX: '1000000',
    LAMBDA_ASYNC_QUEUED_MB_MAX: '10240',
  });
  let measured: Accepting & Starting;
  try {
    measured = await measureSystem(system, options);
  } finally {
    onProgress('stopping the system');
    await system.stop();
  }
  const claims: ClaimRates = await measureClaimRates(options.depth, options.rounds, options);
  return {
    bench: 'queue',
    machine: { cpus: availableParallelism(), node: process.versions.node },
    clients: options.clients,
    ...measured,
    depth: options.depth,
    claimedPerSecond: claims.perSecond,
    claimedPerSecondOfThousand: claims.ofShallowPerSecond,
    claimRateMillionToThousand: claims.ratio,
  };
}

type Accepting = Pick<
  QueueFigures,
  'accepted' | 'acceptedPerSecond' | 'acceptP50Ms' | 'acceptP99Ms' | 'endedPerSecond'
>;
type Starting = Pick<QueueFigures, 'startP50Ms' | 'startP90Ms'>;

async function measureSystem(system: RunningSystem, options: QueueBenchOptions): Promise<Accepting & Starting> {
  const clients = Array.from(
    { length: options.clients },
    () => new KeepAliveClient(system.port, { authorization: `Bearer ${system.apiKey}` }),
  );
  const [first] = clients;
  if (first === undefined) throw new Error('at least one client is needed');
  try {
    const isolation = options.driver === 'process' ? 'auto' : 'runc';
    const definition = { name: FUNCTION, runtime: 'nodejs', memoryMb: 128, isolation, code: { source: SOURCE } };
    const created = await first.call('POST', '/api/functions', Buffer.from(JSON.stringify(definition)));
    if (created.status !== 201) throw new Error(`deploying answered ${created.status}: ${created.body}`);
    options.onProgress(`timing the starts of ${options.starts}`);
    const starting = await measureStarts(first, options);
    options.onProgress(`handing in for ${options.seconds} s with ${options.clients} clients`);
    return { ...starting, ...(await measureAccepting(clients, options)) };
  } finally {
    for (const client of clients) client.close();
  }
}

async function measureStarts(client: KeepAliveClient, { starts, signal }: QueueBenchOptions): Promise<Starting> {
  const elapsed: number[] = [];
  // The first ones make the sandbox, and let the compilers do their work.
  for (let n = -50; n < starts; n += 1) {
    signal.throwIfAborted();
    const answer = await client.call('POST', INVOCATIONS, PAYLOAD);
    const acceptedAt = performance.timeOrigin + performance.now();
    const id = idOf(answer);
    await sleep(20);
    const startedAt = await resultOf(client, id);
    if (n >= 0) elapsed.push(startedAt - acceptedAt);
  }
  return { startP50Ms: rounded(median(elapsed)), startP90Ms: rounded(percentile(elapsed, 90)) };
}

async function measureAccepting(
  clients: readonly KeepAliveClient[],
  { seconds, signal, onProgress }: QueueBenchOptions,
): Promise<Accepting> {
  const elapsed: number[] = [];
  const startedAt = performance.now();
  const until = startedAt + seconds * 1_000;
  await Promise.all(
    clients.map(async (client) => {
      while (performance.now() < until) {
        signal.throwIfAborted();
        const answer = await client.call('POST', INVOCATIONS, PAYLOAD);
        idOf(answer);
        elapsed.push(answer.elapsedMs);
      }
    }),
  );
  const tookMs = performance.now() - startedAt;
  onProgress('waiting for all of them to end');
  const [first] = clients;
  if (first !== undefined) await allEnded(first, signal);
  return {
    accepted: elapsed.length,
    acceptedPerSecond: Math.round((elapsed.length * 1_000) / tookMs),
    acceptP50Ms: rounded(median(elapsed)),
    acceptP99Ms: rounded(percentile(elapsed, 99)),
    endedPerSecond: Math.round((elapsed.length * 1_000) / (performance.now() - startedAt)),
  };
}

function idOf({ status, body }: { readonly status: number; readonly body: Buffer }): string {
  if (status !== 202) throw new Error(`an async call answered ${status}: ${body}`);
  return (JSON.parse(String(body)) as { id: string }).id;
}

async function resultOf(client: KeepAliveClient, id: string): Promise<number> {
  const until = performance.now() + ENDED_DEADLINE_MS;
  while (performance.now() < until) {
    const execution = JSON.parse(String((await client.call('GET', `/api/executions/${id}`)).body)) as {
      outcome: string | null;
      output?: string | null;
    };
    if (execution.output !== undefined) {
      if (execution.outcome !== 'success') throw new Error(`an async call ended as ${execution.outcome}`);
      return Number(execution.output);
    }
    await sleep(5);
  }
  throw new Error('an async call did not end');
}

async function allEnded(client: KeepAliveClient, signal: AbortSignal): Promise<void> {
  const until = performance.now() + ENDED_DEADLINE_MS;
  while (performance.now() < until) {
    signal.throwIfAborted();
    const { queued, running } = JSON.parse(String((await client.call('GET', '/api/queue')).body)) as Overview;
    if (queued + running === 0) return;
    await sleep(100);
  }
  throw new Error(`the queue was not empty ${ENDED_DEADLINE_MS / 1_000} s later`);
}

interface Overview {
  readonly queued: number;
  readonly running: number;
}
