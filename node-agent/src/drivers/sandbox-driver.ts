import type { Duplex } from 'node:stream';
import type { RuntimeName } from '@lambda-fleet/common/runtime-names';
import type { ImageSpec } from '@lambda-fleet/proto';
import type { OutputListener } from './raw-output.js';

/** What stands between a sandbox and its host: the kernel's namespaces, a kernel of its own, or nothing. */
export type Isolation = 'runc' | 'gvisor' | 'none';

/** `egress` reaches public addresses, and never the host, its networks or a cloud's metadata. */
export type Network = 'none' | 'egress';

/**
 * Makes and destroys sandboxes. Shipped implementations: `docker` (one container
 * each) and `process` (one child process each, no isolation, development only).
 * `sandbox-driver.contract.test.ts` runs one suite against both.
 *
 * Contract, for every implementation:
 * - A sandbox starts with a runtime booting and no user code. The runtime opens
 *   its channel by itself; how, is between it and the driver.
 * - `start` resolves once the sandbox exists and its runtime was told to boot; it
 *   does not wait for the connection. When it rejects, nothing is left behind.
 * - `stop` leaves nothing behind: no process, container, mount or cgroup. It may be called at any
 *   time, more than once, and after the sandbox ended by itself. It rejects only
 *   when the sandbox could not be killed within its deadline; the caller then quarantines it.
 * - `exited` resolves exactly once, however the sandbox ended, and never rejects.
 * - Every call to an engine has a deadline.
 */
export interface SandboxDriver {
  readonly name: 'docker' | 'process';
  /** Isolation kinds that its sandboxes can have, as reported in `Hello`. */
  readonly isolation: readonly Isolation[];
  readonly networks: readonly Network[];
  /**
   * Whether the limits of a running sandbox can be changed, and whether it can be frozen. Where not, a sandbox starts with
   * the limits of its function, and its blanks serve no others.
   */
  readonly adjustable: boolean;
  /** Memory that sandboxes can have together where they run on a machine of their own; else undefined. */
  readonly memoryBytesMax: number | undefined;
  /** Runtimes that can be started here. Digest identifies the image, or the interpreter's version. */
  runtimes(): Promise<readonly { readonly name: RuntimeName; readonly digest: string }[]>;
  /** Where the code of a sandbox stands as its runtime sees it, given where it stands on the host. */
  taskRootInside(taskDirHost: string): string;
  start(spec: SandboxSpec): Promise<SandboxInstance>;
  /** Every sandbox of this agent's owner that exists at the moment, whoever made it. */
  find(): Promise<readonly FoundSandbox[]>;
  /** Calls the listener when `isolation` or `networks` have changed. Absent where they never do. */
  onOfferChange?(listener: () => void): void;
  /** Gives up what is not a sandbox's; to be called when there are none any more. Absent where nothing is held. Never rejects. */
  close?(): Promise<void>;
  /** Removes every sandbox that an earlier agent of this node left behind. Returns how many there were. */
  removeLeftovers(): Promise<number>;
}

/** What there is of a sandbox, without an instance that stands for it. */
export interface FoundSandbox {
  readonly id: string;
  /** Rejects when it cannot be removed. */
  remove(): Promise<void>;
}

export interface SandboxSpec {
  /** Unique over the node's life; also the container's name suffix. */
  readonly id: string;
  readonly runtime: RuntimeName;
  /** Of the runtime `image`: what to start from. */
  readonly image?: ImageSpec | undefined;
  readonly isolation: Isolation;
  readonly network: Network;
  readonly limits: SandboxLimits;
  /** Memory of the functions that it will serve: what a runtime must know at boot and cannot change later. */
  readonly heapMemoryMb: number;
  /** Host directory with the user's code; read-only inside. Filled after `start`, before INIT. */
  readonly taskDir: string;
  /** Host directory with what the platform compiled of that code; read-only inside. Filled like `taskDir`. */
  readonly cacheDir: string;
  /** Host directory for the channel's socket, where the driver uses one; read-only inside. */
  readonly channelDir: string;
  readonly nonce: string;
}

export interface SandboxLimits {
  /** Hard limit; memory and swap together. */
  readonly memoryMb: number;
  readonly cpus: number;
}

/** What a sandbox takes of its machine. */
export interface SandboxResources {
  /** Processor time so far and peak memory since {@link resetPeak}; undefined where it cannot be measured. */
  usage(): SandboxUsage | undefined;
  /** Starts a new measurement of peak memory and forgets earlier kills for memory: call it before each run. */
  resetPeak(): void;
  /** Whether other sandboxes are served first when processors are short. Does nothing where that cannot be said. */
  yieldProcessor(yielding: boolean): void;
}

export interface SandboxInstance extends SandboxResources {
  /**
   * What the runtime sends and receives, once it has opened the channel; not authenticated. Rejects when the sandbox
   * is stopped before. The stream closes when the runtime hangs up or ends.
   */
  readonly channel: Promise<Duplex>;
  readonly exited: Promise<SandboxExit>;
  /**
   * Bytes that the sandbox wrote to file descriptors 1 and 2 past the runtime's own logging.
   * At most one listener, which says how many lines it kept; bytes before it is set are dropped.
   */
  onOutput(listener: OutputListener): void;
  /** Sets the limits of a running sandbox. Throws when they cannot be set; the sandbox is useless then. */
  setLimits(limits: SandboxLimits): void;
  /** With `egress`: the only hosts that it reaches from now on; empty is every public address. */
  setEgressHosts(hosts: readonly string[]): Promise<void>;
  /** Stops every process of the sandbox where it stands. Does nothing where that is not possible. */
  freeze(): void;
  /** Lets them go on. Does nothing when they are not frozen. */
  thaw(): void;
  /**
   * To be called in the moment the channel closes. The kernel's evidence of why (the counter of kills for memory)
   * is gone as soon as the engine has cleaned up, which may be before `exited` resolves.
   */
  channelClosed(): void;
  /** Asks its processes to end (SIGTERM), and does not wait. They may well go on: {@link stop} ends them. Never throws. */
  terminate(): void;
  stop(): Promise<void>;
}

export interface SandboxUsage {
  readonly cpuUs: number;
  readonly memoryPeakBytes: number;
}

export interface SandboxExit {
  /** Exit status of the runtime's process, or undefined when a signal ended it or it is not known. */
  readonly code: number | undefined;
  readonly signal: string | undefined;
  /** The kernel, the driver or the runtime's own heap limit ended it for using more memory than allowed. */
  readonly outOfMemory: boolean;
  /** Highest use that was seen before the end, bytes; undefined where it cannot be measured. */
  readonly memoryPeakBytes?: number | undefined;
}
