import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePorts } from './free-ports.js';
import { type HttpAnswer, type HttpCall, httpCall } from './http-call.js';
import { type ProgramResult, runProgram } from './run-program.js';

export const REPOSITORY = fileURLToPath(new URL('../../..', import.meta.url));
const CLI = join(REPOSITORY, 'cli/bin/lambda.mjs');

export interface FleetOptions {
  readonly driver: 'auto' | 'docker' | 'process';
  readonly nodes?: number;
  /** Used again when given; otherwise made, and removed by `dispose`. */
  readonly dataDir?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly args?: readonly string[];
}

export interface RunningCli {
  /** Standard output so far. */
  readonly output: () => string;
  /** Standard error so far. */
  readonly errors: () => string;
  /** Interrupts it, as Ctrl-C does. */
  readonly end: () => void;
  /** Its exit status; null when a signal ended it. */
  readonly exited: Promise<number | null>;
}

const START_DEADLINE_MS = 90_000;

/** A whole system, started as a user starts it: `lambda up` in a process of its own. */
export class Fleet {
  #output = '';

  private constructor(
    readonly process: ChildProcess,
    readonly dataDir: string,
    readonly httpPort: number,
    readonly grpcPort: number,
    private readonly ownsDataDir: boolean,
  ) {}

  /** Starts the system and waits until it takes calls. */
  static async start(options: FleetOptions): Promise<Fleet> {
    const [httpPort = 0, grpcPort = 0] = await freePorts(2);
    const dataDir = options.dataDir ?? (await mkdtemp(join(tmpdir(), 'lf-e2e-')));
    const args = ['up', '--http-port', `${httpPort}`, '--grpc-port', `${grpcPort}`, '--data-dir', dataDir];
    args.push('--driver', options.driver, '--nodes', `${options.nodes ?? 1}`, ...(options.args ?? []));
    const child = spawn(process.execPath, [CLI, ...args], {
      cwd: tmpdir(),
      env: { ...process.env, XDG_CONFIG_HOME: join(dataDir, 'user-config'), ...options.env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const fleet = new Fleet(child, dataDir, httpPort, grpcPort, options.dataDir === undefined);
    const collect = (chunk: Buffer): void => {
      fleet.#output += chunk.toString();
    };
    child.stdout?.on('data', collect);
    child.stderr?.on('data', collect);
    try {
      await fleet.ready();
    } catch (err) {
      await fleet.kill();
      throw err;
    }
    return fleet;
  }

  /** Everything that `lambda up` has printed. */
  get output(): string {
    return this.#output;
  }

  async apiKey(): Promise<string> {
    return (await readFile(join(this.dataDir, 'api-key'), 'utf8')).trim();
  }

  /** Waits until it prints the closing banner, and answers. */
  async ready(): Promise<void> {
    const giveUpAt = Date.now() + START_DEADLINE_MS;
    while (Date.now() < giveUpAt) {
      if (this.process.exitCode !== null) break;
      if (this.#output.includes('npx lambda') && (await this.#isReady())) return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error(`lambda up did not get ready (exit status ${this.process.exitCode}):\n${this.#output}`);
  }

  /** Waits until the control plane says that it is ready, for example after a part was killed. */
  async recovered(): Promise<void> {
    const giveUpAt = Date.now() + START_DEADLINE_MS;
    while (!(await this.#isReady())) {
      if (Date.now() > giveUpAt) throw new Error(`not ready again:\n${this.#output}`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  call(call: Omit<HttpCall, 'port'>): Promise<HttpAnswer> {
    return httpCall({ ...call, port: this.httpPort });
  }

  /** A request to the API with the bootstrap key. */
  async api(method: string, path: string, body?: unknown): Promise<HttpAnswer> {
    const headers: Record<string, string> = { authorization: `Bearer ${await this.apiKey()}` };
    if (body !== undefined) headers['content-type'] = 'application/json';
    return await this.call({ method, path, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  }

  /** A request to a function by Host. */
  function(name: string, path: string, call: Partial<HttpCall> = {}): Promise<HttpAnswer> {
    return this.call({ ...call, path, headers: { host: `${name}.localhost:${this.httpPort}`, ...call.headers } });
  }

  /** The CLI, pointed at this system. */
  async cli(args: readonly string[], options: { cwd?: string; input?: string } = {}): Promise<ProgramResult> {
    return await runProgram(process.execPath, [CLI, ...args], { ...options, env: await this.#cliEnvironment() });
  }

  /** Starts a command that goes on by itself, such as `logs -f`. Its output is collected; `end` interrupts it. */
  async startCli(args: readonly string[]): Promise<RunningCli> {
    const child = spawn(process.execPath, [CLI, ...args], { env: await this.#cliEnvironment(), timeout: 90_000 });
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => {
      output += chunk.toString();
    });
    let errors = '';
    child.stderr.on('data', (chunk: Buffer) => {
      errors += chunk.toString();
    });
    const exited = new Promise<number | null>((resolve) => child.once('close', resolve));
    return { output: () => output, errors: () => errors, end: () => void child.kill('SIGINT'), exited };
  }

  async #cliEnvironment(): Promise<NodeJS.ProcessEnv> {
    return {
      ...process.env,
      LAMBDA_ENDPOINT: `http://127.0.0.1:${this.httpPort}`,
      LAMBDA_API_KEY: await this.apiKey(),
      NO_COLOR: '1',
    };
  }

  /** Stops it as Ctrl-C does and returns its exit status. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return this.process.exitCode;
    const exited = new Promise<number | null>((resolve) => this.process.once('exit', (code) => resolve(code)));
    this.process.kill(signal);
    return await exited;
  }

  async kill(): Promise<void> {
    await this.stop('SIGKILL');
  }

  /** Stops it and removes its data, unless the data directory was given. */
  async dispose(): Promise<void> {
    await this.stop();
    if (this.ownsDataDir) await rm(this.dataDir, { recursive: true, force: true });
  }

  async #isReady(): Promise<boolean> {
    try {
      return (await this.call({ path: '/readyz', timeoutMs: 2_000 })).status === 200;
    } catch {
      // Not listening yet, or no longer: the caller asks again until its deadline.
      return false;
    }
  }
}
