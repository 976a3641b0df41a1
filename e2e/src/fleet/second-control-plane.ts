import { type ChildProcess, spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Fleet, REPOSITORY } from './fleet.js';
import { descendantsOf } from './processes.js';

const SCRIPT = 'control-plane/dist/main.js';

/**
 * Another control plane on the database of a running system, without nodes: it keeps the time of schedules and takes requests
 * as the first one does. Started again at once whenever it is killed.
 */
export class SecondControlPlane {
  #child: ChildProcess | undefined;
  #stopped = false;

  private constructor(private readonly environment: Readonly<Record<string, string>>) {}

  static async start(fleet: Fleet): Promise<SecondControlPlane> {
    const first = (await descendantsOf(fleet.process.pid ?? 0)).find(({ command }) => command.includes(SCRIPT));
    if (first === undefined) throw new Error('no control plane runs');
    const own = { LAMBDA_HTTP_PORT: '0', LAMBDA_GRPC_PORT: '0', LAMBDA_ENROLL_PORT: '0', LAMBDA_CRASH_FILE: '' };
    const second = new SecondControlPlane({ ...(await environmentOf(first.pid)), ...own });
    second.#spawn();
    return second;
  }

  /** By SIGKILL. */
  kill(): void {
    this.#child?.kill('SIGKILL');
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const exited = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGTERM');
    await exited;
  }

  #spawn(): void {
    this.#child = spawn(process.execPath, [join(REPOSITORY, SCRIPT)], { env: this.environment, stdio: 'ignore' });
    this.#child.once('exit', () => {
      if (!this.#stopped) this.#spawn();
    });
  }
}

/** What a process was started with. */
export async function environmentOf(pid: number): Promise<Record<string, string>> {
  const text = await readFile(`/proc/${pid}/environ`, 'utf8');
  const entries = text.split('\0').filter((entry) => entry.includes('='));
  return Object.fromEntries(
    entries.map((entry) => [entry.slice(0, entry.indexOf('=')), entry.slice(entry.indexOf('=') + 1)]),
  );
}
