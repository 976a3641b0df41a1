import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { listenForRuntime, SOCKET_NAME } from '../../channel/channel-listener.js';
import { findMarkedProcesses, type MarkedProcess } from '../../host/process-table.js';
import type { FoundSandbox, SandboxDriver, SandboxInstance, SandboxSpec } from '../sandbox-driver.js';
import { killProcess } from './kill-process.js';
import { ProcessSandbox } from './process-sandbox.js';
import { findRuntimePrograms, type RuntimeProgram } from './runtime-programs.js';

/** Nobody's: 65534 (`nobody`) is what the embedded PostgreSQL runs as, and functions must not reach its files. */
const UNPRIVILEGED_UID = 65533;
const MB = 1024 * 1024;
const MEMORY_CHECK_MS = 100;
const LEFTOVERS_DEADLINE_MS = 5_000;
const LEFTOVERS_POLL_MS = 20;

export interface ProcessDriverOptions {
  /** Identifies this agent's data directory; leftovers are found by it. */
  readonly owner: string;
  /** Folder that sandboxes can reach; copies of the runtime programs go there where needed. */
  readonly workDir: string;
  readonly nodeRuntime: string;
  /** Undefined offers no Python. */
  readonly pythonRuntime: string | undefined;
  /** The static init; undefined offers no programs. */
  readonly providedInit?: string | undefined;
}

/**
 * Sandboxes as plain child processes, for development where no Docker engine is. They are **not isolated**: functions
 * see the host's files and network, and each other's. As root they run as user 65533, else as the agent's own user.
 *
 * Memory is watched, not limited: every 100 ms the function's process is measured (its children are not) and its sandbox killed
 * above its limit. Processor time is not limited. Descendants are found by their process group, and by an environment entry
 * when they left it; one that leaves the group and clears its environment escapes.
 */
export class ProcessDriver implements SandboxDriver {
  readonly name = 'process';
  readonly isolation = ['none'] as const;
  /** It has the host's network, whatever is asked for. */
  readonly networks = ['none', 'egress'] as const;
  readonly adjustable = true;
  readonly memoryBytesMax = undefined;
  readonly #live = new Set<ProcessSandbox>();

  private constructor(
    private readonly options: ProcessDriverOptions,
    private readonly programs: readonly RuntimeProgram[],
  ) {
    setInterval(() => {
      for (const sandbox of this.#live) sandbox.checkMemory();
    }, MEMORY_CHECK_MS).unref();
  }

  static async open(options: ProcessDriverOptions): Promise<ProcessDriver> {
    const programs = await findRuntimePrograms({
      nodeRuntime: options.nodeRuntime,
      pythonRuntime: options.pythonRuntime,
      providedInit: options.providedInit,
      copiesDir: join(options.workDir, 'programs'),
      otherUser: asRoot(),
    });
    return new ProcessDriver(options, programs);
  }

  async runtimes() {
    return this.programs.map(({ name, digest }) => ({ name, digest }));
  }

  taskRootInside(taskDirHost: string): string {
    return taskDirHost;
  }

  async start(spec: SandboxSpec): Promise<SandboxInstance> {
    const program = this.programs.find(({ name }) => name === spec.runtime);
    if (program === undefined) throw new Error(`the runtime ${spec.runtime} is not installed on this machine`);
    const { program: command, args } = program.command(spec.heapMemoryMb);
    const uid = asRoot() ? UNPRIVILEGED_UID : undefined;
    const socketPath = join(spec.channelDir, SOCKET_NAME);
    const listener = await listenForRuntime({ path: socketPath, uid });
    const marker = `LAMBDA_SANDBOX=${spec.id}`;
    const child = spawn(command, args, {
      cwd: spec.taskDir,
      // A group of its own, so that its children can be killed with it.
      detached: true,
      ...(uid === undefined ? {} : { uid, gid: uid }),
      stdio: ['ignore', 'pipe', 'pipe'],
      // Nothing of the agent's own environment.
      env: {
        PATH: '/usr/local/bin:/usr/bin:/bin',
        HOME: '/tmp',
        LANG: 'C.UTF-8',
        LAMBDA_OWNER: this.options.owner,
        LAMBDA_SANDBOX: spec.id,
        LAMBDA_CHANNEL: socketPath,
        LAMBDA_NONCE: spec.nonce,
        LAMBDA_TASK_ROOT: spec.taskDir,
        LAMBDA_CODE_CACHE: spec.cacheDir,
      },
    });
    const pid = await spawned(child).catch((err: unknown) => {
      listener.close();
      throw err;
    });
    const sandbox = new ProcessSandbox({
      child,
      listener,
      pid,
      memoryBytesMax: spec.limits.memoryMb * MB,
      marker,
      startsProgram: program.startsProgram,
    });
    this.#live.add(sandbox);
    void sandbox.exited.then(() => this.#live.delete(sandbox));
    return sandbox;
  }

  async find(): Promise<readonly FoundSandbox[]> {
    const ids = new Set((await this.#processes()).map(sandboxOf));
    return [...ids].map((id) => ({ id, remove: () => this.#kill((process) => sandboxOf(process) === id) }));
  }

  async removeLeftovers(): Promise<number> {
    const found = await this.find();
    await this.#kill(() => true);
    return found.length;
  }

  #processes(): Promise<readonly MarkedProcess[]> {
    return findMarkedProcesses(`LAMBDA_OWNER=${this.options.owner}`);
  }

  /** Until none is left: they may start others meanwhile. */
  async #kill(matches: (process: MarkedProcess) => boolean): Promise<void> {
    const deadline = performance.now() + LEFTOVERS_DEADLINE_MS;
    for (;;) {
      const left = (await this.#processes()).filter(matches);
      if (left.length === 0) return;
      for (const { pid } of left) killProcess(pid);
      if (performance.now() > deadline)
        throw new Error(`${left.length} processes without an agent that knows them cannot be killed`);
      await sleep(LEFTOVERS_POLL_MS);
    }
  }
}

function sandboxOf({ pid, environment }: MarkedProcess): string {
  const prefix = 'LAMBDA_SANDBOX=';
  return environment.find((entry) => entry.startsWith(prefix))?.slice(prefix.length) ?? `process ${pid}`;
}

function asRoot(): boolean {
  return process.getuid?.() === 0;
}

/** The child's pid once it runs; rejects with the reason when it could not be started. */
async function spawned(child: ChildProcess): Promise<number> {
  await once(child, 'spawn');
  // Later errors (a kill that failed) have no one to act on them; the exit tells what counts.
  child.on('error', () => {});
  if (child.pid === undefined) throw new Error('the runtime has no process id');
  return child.pid;
}
