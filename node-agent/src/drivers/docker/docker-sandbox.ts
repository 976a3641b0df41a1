import type { Duplex } from 'node:stream';
import type { ChannelListener } from '../../channel/channel-listener.js';
import { ReadGate } from '../../channel/read-gate.js';
import { HeapAbort } from '../heap-abort.js';
import { type OutputListener, RawOutput } from '../raw-output.js';
import type { SandboxExit, SandboxInstance, SandboxLimits, SandboxUsage } from '../sandbox-driver.js';
import { AttachedChannel } from './attached-channel.js';
import { type Cgroup, locateCgroup, openCgroup } from './cgroup.js';
import type { EgressPlace } from './egress/egress-place.js';
import type { EngineClient } from './engine-client.js';
import { OutputDemux } from './output-demux.js';

/** The engine reports death by signal n as status 128 + n. */
const SIGNAL_STATUS = 128;
const SIGNALS: Readonly<Record<number, string>> = { 6: 'SIGABRT', 9: 'SIGKILL', 11: 'SIGSEGV', 15: 'SIGTERM' };

export interface DockerSandboxOptions {
  readonly engine: EngineClient;
  readonly containerId: string;
  /** The engine's attach stream. */
  readonly attached: Duplex;
  /** Waits for the runtime on a socket; undefined when frames travel over the attach stream. */
  readonly listener: ChannelListener | undefined;
  /** The container is gone, and with it what it was made from may go. */
  readonly onRemoved?: (() => void) | undefined;
  /** Its place in the egress network; undefined has no network. */
  readonly place: EgressPlace | undefined;
}

/** What the kernel does to a process for its memory. */
const KILLED = SIGNAL_STATUS + 9;
/** An engine on a busy machine takes seconds to end a container; what the kernel or V8 said of memory is known before. */
const EVIDENCE_AFTER_MS = 1_000;

/** One running container. */
export class DockerSandbox implements SandboxInstance {
  readonly channel: Promise<Duplex>;
  readonly exited: Promise<SandboxExit>;
  readonly #output: RawOutput;
  readonly #heapAbort = new HeapAbort();
  #cgroup: Cgroup | undefined;
  /** Kills for memory before the present run. */
  #killsBefore = 0;
  #killedForMemory = false;
  #endedByEvidence: (exit: SandboxExit) => void = () => {};
  #evidenceTimer: NodeJS.Timeout | undefined;
  #frozen = false;
  /** At the end of its channel: a moment later the cgroup is gone. */
  #lastUsage: SandboxUsage | undefined;
  #removing: Promise<void> | undefined;
  #removed = false;

  constructor(private readonly options: DockerSandboxOptions) {
    const { listener, attached } = options;
    const gate = new ReadGate(attached);
    const output = new RawOutput({
      pause: () => gate.hold('raw output'),
      resume: () => gate.release('raw output'),
    });
    this.#output = output;
    let onStdout = (bytes: Buffer): void => output.push('stdout', bytes);
    if (listener === undefined) {
      const channel = new AttachedChannel(attached, gate);
      onStdout = (bytes) => channel.receive(bytes);
      this.channel = channel.opened;
    } else {
      this.channel = listener.connected;
    }
    const onStderr = (bytes: Buffer): void => {
      this.#heapAbort.push(bytes);
      output.push('stderr', bytes);
    };
    const demux = new OutputDemux((stream, bytes) => (stream === 'stdout' ? onStdout(bytes) : onStderr(bytes)));
    attached.on('data', (chunk: Buffer) => demux.push(chunk));
    const byEvidence = new Promise<SandboxExit>((resolve) => {
      this.#endedByEvidence = resolve;
    });
    this.exited = Promise.race([this.#watch(attached), byEvidence]);
  }

  /** Finds the container's cgroup. Until then usage is unknown, and why the kernel killed is asked of the engine. */
  async measure(): Promise<void> {
    const { engine, containerId } = this.options;
    const info = await engine.inspect(containerId);
    const pid = info?.State.Pid ?? 0;
    const place = pid > 0 ? await locateCgroup(pid, containerId) : undefined;
    if (place === undefined || this.#removed) return;
    this.#cgroup = openCgroup(place);
    this.#killsBefore = 0;
  }

  onOutput(listener: OutputListener): void {
    this.#output.listen(listener);
  }

  usage(): SandboxUsage | undefined {
    return this.#cgroup?.usage();
  }

  resetPeak(): void {
    this.#cgroup?.resetPeak();
    this.#killsBefore = this.#cgroup?.memoryKills() ?? this.#killsBefore;
  }

  yieldProcessor(yielding: boolean): void {
    this.#cgroup?.setYielding(yielding);
  }

  setLimits(limits: SandboxLimits): void {
    if (this.#cgroup === undefined) throw new Error('the cgroup of the sandbox is not known');
    this.#cgroup.setLimits(limits);
  }

  async setEgressHosts(hosts: readonly string[]): Promise<void> {
    const { place } = this.options;
    if (place === undefined) throw new Error('this sandbox has no network');
    await place.setHosts(hosts);
  }

  freeze(): void {
    this.#frozen = true;
    this.#cgroup?.setFrozen(true);
  }

  thaw(): void {
    if (!this.#frozen) return;
    this.#frozen = false;
    this.#cgroup?.setFrozen(false);
  }

  channelClosed(): void {
    this.#lastUsage = this.#cgroup?.usage() ?? this.#lastUsage;
    const kills = this.#cgroup?.memoryKills();
    if (kills !== undefined && kills > this.#killsBefore) this.#killedForMemory = true;
    this.#evidenceTimer ??= setTimeout(() => this.#tellEvidence(), EVIDENCE_AFTER_MS).unref();
  }

  terminate(): void {
    const { engine, containerId } = this.options;
    // Gone already, or not to be reached: what is left is removed in a moment.
    engine.signal(containerId, 'SIGTERM').catch(() => {});
  }

  stop(): Promise<void> {
    this.#removing ??= this.#remove().catch((err: unknown) => {
      // A later call tries again.
      this.#removing = undefined;
      throw err;
    });
    return this.#removing;
  }

  /** Why it ended, when the engine has not told how yet. */
  #tellEvidence(): void {
    if (!this.#killedForMemory && !this.#heapAbort.seen) return;
    const signal = this.#killedForMemory ? 'SIGKILL' : 'SIGABRT';
    const memoryPeakBytes = this.#lastUsage?.memoryPeakBytes;
    this.#endedByEvidence({ code: undefined, signal, outOfMemory: true, memoryPeakBytes });
  }

  async #remove(): Promise<void> {
    const { engine, containerId, listener, onRemoved, place } = this.options;
    listener?.close();
    this.#output.lift();
    // The engine would wait for processes that cannot die: half a minute under gVisor.
    this.thaw();
    await engine.remove(containerId);
    this.#removed = true;
    onRemoved?.();
    await place?.leave();
    this.#cgroup?.close();
    this.#cgroup = undefined;
  }

  /**
   * The output ends with the process, or with the connection to the engine; only the engine's answer to `wait` tells
   * which. When it gives none the sandbox counts as ended with an unknown status, and stopping it shows the truth.
   */
  async #watch(attached: Duplex): Promise<SandboxExit> {
    await new Promise<void>((resolve) => {
      attached.once('end', resolve);
      attached.once('close', resolve);
      attached.once('error', () => resolve());
    });
    this.channelClosed();
    const { engine, containerId } = this.options;
    let status: number | undefined;
    let killedByKernel = false;
    try {
      status = await engine.wait(containerId);
      // For a cgroup that could not be read, or not in time. The engine remembers a kill of any process at any time, so
      // alone it does not say that this end was one.
      killedByKernel = status === KILLED && ((await engine.inspect(containerId))?.State.OOMKilled ?? false);
    } catch {
      // The engine is gone; the status stays unknown.
    }
    const outOfMemory = this.#killedForMemory || killedByKernel || (status !== 0 && this.#heapAbort.seen);
    const signal = status === undefined ? undefined : SIGNALS[status - SIGNAL_STATUS];
    const memoryPeakBytes = this.#lastUsage?.memoryPeakBytes;
    return { code: signal === undefined ? status : undefined, signal, outOfMemory, memoryPeakBytes };
  }
}
