import type { ChildProcess } from 'node:child_process';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { withDeadline } from '@lambda-fleet/common/deadline';
import type { ChannelListener } from '../../channel/channel-listener.js';
import {
  findMarkedProcesses,
  firstChild,
  peakMemoryBytes,
  privateMemoryBytes,
  processorTimeUs,
  resetPeakMemory,
} from '../../host/process-table.js';
import { HeapAbort } from '../heap-abort.js';
import { type OutputListener, RawOutput } from '../raw-output.js';
import type { SandboxExit, SandboxInstance, SandboxLimits, SandboxUsage } from '../sandbox-driver.js';
import { killProcess } from './kill-process.js';

const KILL_POLL_MS = 10;
/** A process that was killed is gone in a few milliseconds, unless the kernel itself is stuck. */
const STOP_DEADLINE_MS = 5_000;
const MB = 1024 * 1024;
/** A grandchild may hold the output pipes open after the sandbox is gone. */
const OUTPUT_GRACE_MS = 200;

export interface ProcessSandboxOptions {
  readonly child: ChildProcess;
  readonly listener: ChannelListener;
  readonly pid: number;
  readonly memoryBytesMax: number;
  /** Whether the function runs in the first child of the process, and not in itself. */
  readonly startsProgram: boolean;
  /** Environment entry that all processes of this sandbox inherited. */
  readonly marker: string;
}

/** One process group. */
export class ProcessSandbox implements SandboxInstance {
  readonly channel: Promise<Duplex>;
  readonly exited: Promise<SandboxExit>;
  readonly #output: RawOutput;
  readonly #heapAbort = new HeapAbort();
  #running = true;
  #killedForMemory = false;
  #stopping: Promise<void> | undefined;
  #memoryBytesMax: number;
  #frozen = false;

  constructor(private readonly options: ProcessSandboxOptions) {
    this.channel = options.listener.connected;
    this.#memoryBytesMax = options.memoryBytesMax;
    const { stdout, stderr } = options.child;
    this.#output = new RawOutput({
      pause: () => {
        stdout?.pause();
        stderr?.pause();
      },
      resume: () => {
        stdout?.resume();
        stderr?.resume();
      },
    });
    stdout?.on('data', (bytes: Buffer) => this.#output.push('stdout', bytes));
    stderr?.on('data', (bytes: Buffer) => {
      this.#heapAbort.push(bytes);
      this.#output.push('stderr', bytes);
    });
    this.exited = this.#watch();
  }

  onOutput(listener: OutputListener): void {
    this.#output.listen(listener);
  }

  usage(): SandboxUsage | undefined {
    const pid = this.#functionPid();
    const cpuUs = processorTimeUs(pid);
    const memoryBytes = peakMemoryBytes(pid);
    return cpuUs === undefined || memoryBytes === undefined ? undefined : { cpuUs, memoryPeakBytes: memoryBytes };
  }

  resetPeak(): void {
    resetPeakMemory(this.#functionPid());
  }

  /** Not without cgroups. */
  yieldProcessor(): void {}

  /** Processor time is not limited. */
  setLimits({ memoryMb }: SandboxLimits): void {
    this.#memoryBytesMax = memoryMb * MB;
  }

  /** Not enforced: the sandbox has the host's network. */
  async setEgressHosts(): Promise<void> {}

  freeze(): void {
    if (!this.#running) return;
    this.#frozen = true;
    killProcess(-this.options.pid, 'SIGSTOP');
  }

  thaw(): void {
    if (!this.#frozen) return;
    this.#frozen = false;
    if (this.#running) killProcess(-this.options.pid, 'SIGCONT');
  }

  channelClosed(): void {
    this.checkMemory();
  }

  /** Kills the sandbox when it uses more than it may. */
  checkMemory(): void {
    const bytes = this.#running ? privateMemoryBytes(this.#functionPid()) : undefined;
    if (bytes === undefined || bytes <= this.#memoryBytesMax) return;
    this.#killedForMemory = true;
    this.#killGroup();
  }

  #functionPid(): number {
    const { pid, startsProgram } = this.options;
    return (startsProgram ? firstChild(pid) : undefined) ?? pid;
  }

  terminate(): void {
    if (this.#running) killProcess(-this.options.pid, 'SIGTERM');
  }

  stop(): Promise<void> {
    this.#stopping ??= this.#stop().catch((err: unknown) => {
      // A later call tries again.
      this.#stopping = undefined;
      throw err;
    });
    return this.#stopping;
  }

  async #stop(): Promise<void> {
    this.options.listener.close();
    this.#output.lift();
    this.#killGroup();
    await withDeadline('ending a sandbox process', STOP_DEADLINE_MS, this.exited);
    await this.#killRest();
  }

  /** Those that left the group with setsid, until none is left: one that was killed takes a moment to go. */
  async #killRest(): Promise<void> {
    const until = performance.now() + STOP_DEADLINE_MS;
    for (;;) {
      const left = await findMarkedProcesses(this.options.marker);
      if (left.length === 0) return;
      if (performance.now() > until) throw new Error(`${left.length} processes of the sandbox cannot be killed`);
      for (const { pid } of left) killProcess(pid);
      await sleep(KILL_POLL_MS);
    }
  }

  /** Only while the leader is not reaped: afterwards its number may belong to somebody else. */
  #killGroup(): void {
    if (this.#running) killProcess(-this.options.pid);
  }

  async #watch(): Promise<SandboxExit> {
    const { child } = this.options;
    const closed = new Promise<void>((resolve) => child.once('close', () => resolve()));
    const ended = await new Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>(
      (resolve) =>
        child.once('exit', (code, signal) => {
          // Its group may live on, and keeps the number taken; when nothing is left of it this finds nobody.
          killProcess(-this.options.pid);
          this.#running = false;
          resolve({ code, signal });
        }),
    );
    this.#output.lift();
    await Promise.race([closed, new Promise((resolve) => setTimeout(resolve, OUTPUT_GRACE_MS))]);
    child.stdout?.destroy();
    child.stderr?.destroy();
    return {
      code: ended.code ?? undefined,
      signal: ended.signal ?? undefined,
      outOfMemory: this.#killedForMemory || (ended.code !== 0 && this.#heapAbort.seen),
    };
  }
}
