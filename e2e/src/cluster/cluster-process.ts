import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { withDeadline } from '@lambda-fleet/common/deadline';

export interface ClusterProcessOptions {
  /** For reports. */
  readonly name: string;
  readonly script: string;
  readonly environment: Readonly<Record<string, string>>;
  /** What it is started with, such as the way into a network namespace. */
  readonly command?: readonly string[];
  /** What it writes is appended here. */
  readonly logFile: string;
}

const READY_DEADLINE_MS = 60_000;
const STOP_DEADLINE_MS = 120_000;

/** One process of a cluster. It ends with this one, because its IPC channel does. */
export class ClusterProcess {
  #child: ChildProcess | undefined;

  constructor(private readonly options: ClusterProcessOptions) {}

  get name(): string {
    return this.options.name;
  }

  /** Whether it ended by itself: everything that the test did not stop must go on. */
  get ended(): boolean {
    return this.#child !== undefined && (this.#child.exitCode !== null || this.#child.signalCode !== null);
  }

  /** Resolves when it says that it serves. */
  async start(): Promise<void> {
    const { name, script, environment, logFile, command = [] } = this.options;
    const log = openSync(logFile, 'a');
    const [program = '', ...args] = [...command, process.execPath, script];
    const child = spawn(program, args, { env: { ...environment }, stdio: ['ignore', log, log, 'ipc'] });
    closeSync(log);
    this.#child = child;
    const ready = new Promise<void>((resolve, reject) => {
      child.on('message', () => resolve());
      child.once('exit', (code, signal) => reject(new Error(`${name} ended with ${signal ?? code}`)));
    });
    try {
      await withDeadline(`starting ${name}`, READY_DEADLINE_MS, ready);
    } catch (err) {
      throw new Error(`${name} did not start:\n${await readFile(logFile, 'utf8')}`, { cause: err });
    }
  }

  /** Resolves with its exit status when it has ended. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    const child = this.#child;
    if (child === undefined || this.ended) return child?.exitCode ?? null;
    const exited = new Promise<number | null>((resolve) => child.once('exit', (code) => resolve(code)));
    child.kill(signal);
    return await withDeadline(`stopping ${this.options.name}`, STOP_DEADLINE_MS, exited);
  }

  async restart(signal: NodeJS.Signals): Promise<void> {
    await this.stop(signal);
    await this.start();
  }

  /** Frozen, as by a hypervisor, until `resume`. */
  pause(): void {
    this.#child?.kill('SIGSTOP');
  }

  resume(): void {
    this.#child?.kill('SIGCONT');
  }
}
