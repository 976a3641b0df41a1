import { randomUUID } from 'node:crypto';
import { availableParallelism } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import type { BenchOptions } from './bench.js';
import { timeDockerRun } from './docker-run.js';
import { KeepAliveClient } from './keep-alive-client.js';
import { parseServerTiming } from './server-timing.js';
import { median, percentile, rounded } from './statistics.js';
import { type RunningSystem, startSystem } from './system-under-test.js';

/** Two kinds of them are measured at a time, and each has to be there again for the next round. */
const BLANKS = 4;
const BLANK_DEADLINE_MS = 60_000;
/** Nodes report what they have at most ten times a second. */
const REPORT_MS = 300;
/** Longer than the time after which an idle sandbox is frozen. */
const IDLE_MS = 300;

interface Subject {
  readonly runtime: 'nodejs' | 'python';
  readonly source: string;
  readonly image: string;
  /** Starts the language and ends it, as a function's container would have to. */
  readonly command: readonly string[];
}

const SUBJECTS: readonly Subject[] = [
  {
    runtime: 'nodejs',
    source: 'export const handler = async (event) => ({ hello: event.name });\n',
    image: 'lambda-fleet/runtime-nodejs:current',
    command: ['/var/runtime/bin/node', '-e', '0'],
  },
  {
    runtime: 'python',
    source: 'def handler(event):\n    return {"hello": event["name"]}\n',
    image: 'lambda-fleet/runtime-python:current',
    command: ['/usr/bin/python3', '-c', '0'],
  },
];

/** Milliseconds, request to response; medians over all rounds. Ratios are to `docker run` of the same image in the same rounds. */
export interface ColdStartFigures {
  readonly dockerRunP50Ms: number;
  readonly blankP50Ms: number;
  readonly blankP99Ms: number;
  readonly missP50Ms: number;
  /** A call of a sandbox that was frozen. */
  readonly idleP50Ms: number;
  readonly blankToDockerRun: number;
  readonly missToDockerRun: number;
  /** Medians of the phases of a blank start, from `server-timing`. */
  readonly blankPhasesMs: Readonly<Record<string, number>>;
}

export type RuntimeFigures = Readonly<Record<Subject['runtime'], ColdStartFigures>>;

export interface ColdStartReport {
  readonly bench: 'coldstart';
  readonly machine: { readonly cpus: number; readonly node: string };
  readonly rounds: number;
  /** Of Node under runc: the figures that have a bound. */
  readonly blankToDockerRun: number;
  readonly blankP50Ms: number;
  readonly missToDockerRun: number;
  readonly gvisorBlankToDockerRun: number | null;
  readonly runc: RuntimeFigures;
  /** Null where no node has gVisor. */
  readonly gvisor: RuntimeFigures | null;
}

export interface ColdStartOptions extends BenchOptions {
  readonly rounds: number;
}

type Isolation = 'runc' | 'gvisor';

interface Samples {
  readonly dockerRun: number[];
  readonly blank: number[];
  readonly miss: number[];
  readonly idle: number[];
  readonly phases: Map<string, number[]>;
}

/**
 * Measures starts of small functions: from a blank, without one, and of a frozen sandbox, beside `docker run` of the same
 * image, interleaved. Two systems run side by side, one of which keeps no blanks; while one is measured the other is idle.
 */
export async function benchColdStart(options: ColdStartOptions): Promise<ColdStartReport> {
  const { signal, onProgress, rounds } = options;
  const releases: (() => Promise<void> | void)[] = [];
  try {
    onProgress(`starting two systems of its own, with ${BLANKS} blanks and without`);
    const start = async (blanks: number): Promise<Target> => {
      const system = await startSystem(options.driver, signal, { LAMBDA_BLANKS: String(blanks) });
      releases.push(() => system.stop());
      const target = new Target(system, signal);
      releases.push(() => target.close());
      return target;
    };
    const withBlanks = await start(BLANKS);
    const without = await start(0);
    const offered = await withBlanks.isolation();
    const isolations = (['runc', 'gvisor'] as const).filter((isolation) => offered.has(isolation));
    if (isolations.length === 0)
      throw new Error('no node of the system isolates: this benchmark needs a Docker engine');
    const cells = isolations.flatMap((isolation) => SUBJECTS.map((subject) => new Cell(isolation, subject)));
    for (let round = 1; round <= rounds; round += 1) {
      onProgress(`round ${round} of ${rounds}`);
      for (const cell of cells) await cell.measure(withBlanks, without, signal);
    }
    const runc = figuresOf(cells, 'runc');
    const gvisor = isolations.includes('gvisor') ? figuresOf(cells, 'gvisor') : null;
    return {
      bench: 'coldstart',
      machine: { cpus: availableParallelism(), node: process.versions.node },
      rounds,
      blankToDockerRun: runc.nodejs.blankToDockerRun,
      blankP50Ms: runc.nodejs.blankP50Ms,
      missToDockerRun: runc.nodejs.missToDockerRun,
      gvisorBlankToDockerRun: gvisor?.nodejs.blankToDockerRun ?? null,
      runc,
      gvisor,
    };
  } finally {
    onProgress('stopping');
    for (const release of releases.reverse()) await release();
  }
}

/** One language under one isolation. */
class Cell {
  readonly samples: Samples = { dockerRun: [], blank: [], miss: [], idle: [], phases: new Map() };

  constructor(
    readonly isolation: Isolation,
    readonly subject: Subject,
  ) {}

  async measure(withBlanks: Target, without: Target, signal: AbortSignal): Promise<void> {
    const { subject, isolation, samples } = this;
    const { image, command } = subject;
    samples.dockerRun.push(await timeDockerRun(image, command, isolation === 'gvisor' ? 'runsc' : undefined, signal));
    const missed = await without.coldCall(subject, isolation, 'cold');
    samples.miss.push(missed.elapsedMs);
    const blank = await withBlanks.coldCall(subject, isolation, 'blank');
    samples.blank.push(blank.elapsedMs);
    for (const [phase, ms] of blank.phases) samples.phases.set(phase, [...(samples.phases.get(phase) ?? []), ms]);
    samples.idle.push(await withBlanks.callAfterIdle(subject, isolation));
  }
}

/** A running system and what the benchmark does with it. */
class Target {
  readonly #client: KeepAliveClient;

  constructor(
    system: RunningSystem,
    private readonly signal: AbortSignal,
  ) {
    this.#client = new KeepAliveClient(system.port, { authorization: `Bearer ${system.apiKey}` });
  }

  async isolation(): Promise<ReadonlySet<string>> {
    const { nodes } = (await this.#json('GET', '/api/nodes')) as { nodes: { isolation: string[] }[] };
    return new Set(nodes.flatMap((node) => node.isolation));
  }

  /** The first call of a new function, which no sandbox of it is there for. Throws when it started in another way. */
  async coldCall(
    { runtime, source }: Subject,
    isolation: Isolation,
    start: 'blank' | 'cold',
  ): Promise<{ readonly elapsedMs: number; readonly phases: ReadonlyMap<string, number> }> {
    const name = `cold-${randomUUID().slice(0, 8)}`;
    // The sandbox in which a deployment loads the code is not kept.
    await this.#deploy({ name, runtime, isolation, keepAliveMs: 0, code: { source } });
    if (start === 'blank') await this.#untilBlank(runtime, isolation);
    const answer = await this.#client.call(
      'POST',
      `/api/functions/${name}/invocations`,
      Buffer.from('{"name":"World"}'),
    );
    if (answer.status !== 200 || answer.body.toString() !== '{"hello":"World"}') {
      throw new Error(`a cold call answered ${answer.status}: ${answer.body.subarray(0, 500)}`);
    }
    const { 'x-lambda-start': began, 'x-lambda-isolation': isolated } = answer.headers;
    if (began !== start || isolated !== isolation) {
      throw new Error(`a call was to be ${start} under ${isolation} and was ${began} under ${isolated}`);
    }
    await this.#json('DELETE', `/api/functions/${name}`);
    return { elapsedMs: answer.elapsedMs, phases: parseServerTiming(String(answer.headers['server-timing'] ?? '')) };
  }

  /** A warm call of a sandbox that has been idle, and so frozen. */
  async callAfterIdle({ runtime, source }: Subject, isolation: Isolation): Promise<number> {
    const name = `idle-${runtime}-${isolation}`;
    await this.#deploy({ name, runtime, isolation, code: { source } });
    const path = `/api/functions/${name}/invocations`;
    await this.#client.call('POST', path, Buffer.from('{"name":"World"}'));
    await sleep(IDLE_MS, undefined, { signal: this.signal });
    const answer = await this.#client.call('POST', path, Buffer.from('{"name":"World"}'));
    if (answer.headers['x-lambda-start'] !== 'warm') throw new Error('a call after a pause was not warm');
    await this.#json('DELETE', `/api/functions/${name}`);
    return answer.elapsedMs;
  }

  close(): void {
    this.#client.close();
  }

  async #deploy(definition: { readonly name: string } & Record<string, unknown>): Promise<void> {
    const body = Buffer.from(JSON.stringify({ memoryMb: 128, ...definition }));
    const answer = await this.#client.call('POST', '/api/functions', body);
    if (answer.status !== 201) throw new Error(`deploying answered ${answer.status}: ${answer.body}`);
  }

  async #untilBlank(runtime: string, isolation: string): Promise<void> {
    // What the node said last may be older than the blank which the deployment took.
    await sleep(REPORT_MS, undefined, { signal: this.signal });
    const until = performance.now() + BLANK_DEADLINE_MS;
    while (performance.now() < until) {
      const { nodes } = (await this.#json('GET', '/api/nodes')) as {
        nodes: { blanks: { runtime: string; isolation: string; count: number }[] }[];
      };
      const kinds = nodes.flatMap((node) => node.blanks);
      if (kinds.some((kind) => kind.runtime === runtime && kind.isolation === isolation && kind.count > 0)) return;
      await sleep(50, undefined, { signal: this.signal });
    }
    throw new Error(`no blank for ${runtime} under ${isolation} came up in ${BLANK_DEADLINE_MS / 1_000} s`);
  }

  async #json(method: string, path: string): Promise<unknown> {
    this.signal.throwIfAborted();
    const { status, body } = await this.#client.call(method, path);
    if (status >= 300) throw new Error(`${method} ${path} answered ${status}: ${body}`);
    return body.length === 0 ? undefined : JSON.parse(body.toString());
  }
}

function figuresOf(cells: readonly Cell[], isolation: Isolation): RuntimeFigures {
  const of = (runtime: Subject['runtime']): ColdStartFigures => {
    const cell = cells.find((one) => one.isolation === isolation && one.subject.runtime === runtime);
    if (cell === undefined) throw new Error(`${runtime} was not measured under ${isolation}`);
    const { dockerRun, blank, miss, idle, phases } = cell.samples;
    return {
      dockerRunP50Ms: rounded(median(dockerRun)),
      blankP50Ms: rounded(median(blank)),
      blankP99Ms: rounded(percentile(blank, 99)),
      missP50Ms: rounded(median(miss)),
      idleP50Ms: rounded(median(idle)),
      blankToDockerRun: rounded(median(blank) / median(dockerRun)),
      missToDockerRun: rounded(median(miss) / median(dockerRun)),
      blankPhasesMs: Object.fromEntries([...phases].map(([phase, times]) => [phase, rounded(median(times))])),
    };
  };
  return { nodejs: of('nodejs'), python: of('python') };
}
