import { randomBytes } from 'node:crypto';
import { withDeadline } from '@lambda-fleet/common/deadline';
import type { Logger } from '@lambda-fleet/common/logger';
import type { RuntimeName } from '@lambda-fleet/common/runtime-names';
import {
  Conversation,
  type InitMessage,
  type InitResult,
  type InvokeMessage,
  type InvokeResult,
} from '../channel/conversation.js';
import type { ProtocolViolation } from '../channel/protocol-violation.js';
import type { LogMessage } from '../channel/runtime-messages.js';
import type { OutputStream } from '../drivers/output-tap.js';
import type { SandboxDriver, SandboxExit, SandboxInstance, SandboxUsage } from '../drivers/sandbox-driver.js';
import type { Amount } from './budget.js';
import type { SandboxPlaces } from './sandbox-directories.js';

export type SandboxState =
  | 'creating'
  | 'blank'
  | 'specialising'
  | 'idle'
  | 'busy'
  | 'stopping'
  | 'gone'
  | 'quarantined';

const NEXT: Readonly<Record<SandboxState, readonly SandboxState[]>> = {
  creating: ['blank', 'stopping'],
  blank: ['specialising', 'stopping'],
  specialising: ['idle', 'stopping'],
  idle: ['busy', 'stopping'],
  busy: ['idle', 'stopping'],
  stopping: ['gone', 'quarantined'],
  gone: [],
  quarantined: ['gone'],
};

/** Why the agent itself ends a sandbox. */
export type StopReason =
  | 'deadline'
  | 'init_deadline'
  | 'init_failed'
  | 'boot_failed'
  | 'cancelled'
  | 'keep_alive_over'
  | 'evicted'
  | 'forgotten'
  | 'not_kept'
  | 'agent_stopping';

/** How a sandbox came to its end. */
export type SandboxEnd =
  | { readonly kind: 'stopped'; readonly reason: StopReason }
  | { readonly kind: 'violation'; readonly violation: ProtocolViolation }
  /** By itself; `exit` is undefined when it hung up and then did not end. */
  | { readonly kind: 'exit'; readonly exit: SandboxExit | undefined };

/** Receives what a sandbox writes. */
export interface SandboxListener {
  /** False drops a log line unread. */
  wantsLog(bytes: number): boolean;
  log(message: LogMessage, text: Buffer): void;
  /** Output past the runtime's own logging; the engine delivers it late, even after a result. */
  raw(stream: OutputStream, bytes: Buffer): void;
}

export interface SandboxShape {
  readonly versionId: string;
  readonly runtime: RuntimeName;
  readonly memoryMb: number;
  readonly cpus: number;
  readonly timeoutMs: number;
  readonly initTimeoutMs: number;
  readonly keepAliveMs: number;
}

export interface SandboxOptions {
  readonly shape: SandboxShape;
  readonly driver: SandboxDriver;
  readonly places: SandboxPlaces;
  readonly log: Logger;
  /** Called in the turn of the change. */
  readonly changed: (sandbox: Sandbox, from: SandboxState) => void;
}

export interface TimedInvokeResult {
  readonly result: InvokeResult;
  /** From the event being written to the result, µs. */
  readonly runUs: number;
}

const MB = 1024 * 1024;
/** From the driver's start to the runtime's connection; a loaded machine takes seconds. */
const BOOT_DEADLINE_MS = 30_000;
const HELLO_DEADLINE_MS = 10_000;
const PING_INTERVAL_MS = 10_000;
/** How long a runtime that hung up may take to end. The engine needs about 100 ms to tell its exit status. */
const EXIT_GRACE_MS = 2_000;
/** An engine that was away comes back and has to be told again. */
const QUARANTINE_RETRY_MS = 10_000;
const BOOT_OUTPUT_CHARS_MAX = 2_000;
const STOPPED_EARLY = 'the sandbox was stopped while it started';

/**
 * One sandbox, from the order to make it until nothing is left of it. It serves one function version and is never shared.
 *
 * - creating: directories and the driver's sandbox are made. The runtime's HELLO → blank.
 * - blank: the runtime is up and has no code. `specialise` → specialising.
 * - specialising: code is loaded. READY → idle.
 * - idle: waits for work. `invoke` → busy, in the same turn, so that work in flight is never reaped.
 * - busy: one invocation runs. Its result → idle.
 * - stopping: entered from any state above by `stop`, or when the runtime hangs up or breaks the protocol. The channel
 *   is closed, {@link ended} resolves, the driver removes the sandbox → gone, or → quarantined when it cannot.
 * - gone: nothing is left.
 * - quarantined: it may still run, and keeps its memory and slot. Removing it is tried again until it works → gone.
 */
export class Sandbox {
  readonly id = randomBytes(8).toString('hex');
  readonly amount: Amount;
  /** Resolves when it is known how the sandbox ended, before it is gone. */
  readonly ended: Promise<SandboxEnd>;
  /** Resolves in gone or quarantined. Never rejects. */
  readonly settled: Promise<void>;
  /** To be stopped instead of becoming idle again. */
  retired = false;
  #state: SandboxState = 'creating';
  #instance: SandboxInstance | undefined;
  #booting: Promise<void> | undefined;
  #conversation: Conversation | undefined;
  #listener: SandboxListener | undefined;
  #taskDir = '';
  #bootOutput = '';
  #deadline: NodeJS.Timeout | undefined;
  #end: (end: SandboxEnd) => void = () => {};
  #settle: () => void = () => {};

  constructor(private readonly options: SandboxOptions) {
    this.amount = { memoryBytes: options.shape.memoryMb * MB, slots: 1 };
    this.ended = new Promise((resolve) => {
      this.#end = resolve;
    });
    this.settled = new Promise((resolve) => {
      this.#settle = resolve;
    });
  }

  get state(): SandboxState {
    return this.#state;
  }

  get shape(): SandboxShape {
    return this.options.shape;
  }

  listen(listener: SandboxListener): void {
    this.#listener = listener;
  }

  usage(): SandboxUsage | undefined {
    return this.#instance?.usage();
  }

  resetPeak(): void {
    this.#instance?.resetPeak();
  }

  /** creating → blank. When it rejects the sandbox is stopping, and `ended` says why. */
  async boot(): Promise<void> {
    try {
      this.#booting = this.#boot();
      await withDeadline('starting a sandbox', BOOT_DEADLINE_MS, this.#booting);
    } catch (err) {
      this.stop('boot_failed');
      throw err;
    }
  }

  /**
   * blank → specialising. The code must stand in {@link taskDir}. Rejects with ChannelClosed. After READY the caller
   * calls {@link release}; the sandbox is not offered to others before, so that its first invocation is the one it was made for.
   */
  async specialise(message: InitMessage): Promise<InitResult> {
    const conversation = this.#conversationIn('blank');
    this.#enter('specialising');
    const deadline = setTimeout(() => this.stop('init_deadline'), this.shape.initTimeoutMs);
    try {
      return await conversation.init(message);
    } finally {
      clearTimeout(deadline);
    }
  }

  /** Where the code goes before {@link specialise}. */
  get taskDir(): string {
    return this.#taskDir;
  }

  /** idle → busy → idle. Rejects with ChannelClosed; `ended` then says why. */
  async invoke(message: InvokeMessage, event: Buffer): Promise<TimedInvokeResult> {
    const conversation = this.#conversationIn('idle');
    this.#enter('busy');
    this.#armDeadline();
    let writtenAt = performance.now();
    let answered = false;
    const result = await conversation.invoke(message, event, () => {
      // A large event is taken piece by piece; its time counts from the last.
      if (answered) return;
      writtenAt = performance.now();
      this.#armDeadline();
    });
    answered = true;
    const runUs = Math.round((performance.now() - writtenAt) * 1000);
    return { result, runUs };
  }

  /** busy or specialising → idle, after a result or READY. False when the sandbox has ended meanwhile. */
  release(): boolean {
    if (this.#state === 'stopping' || this.#state === 'gone' || this.#state === 'quarantined') return false;
    this.#enter('idle');
    return true;
  }

  /** → stopping, from any state before; later calls change nothing. */
  stop(reason: StopReason): void {
    this.#stopWith(async () => ({ kind: 'stopped', reason }));
  }

  async #boot(): Promise<void> {
    const { driver, places, shape } = this.options;
    const { taskDir, cacheDir, channelDir } = await places.make(this.id);
    this.#taskDir = taskDir;
    const nonce = randomBytes(16).toString('hex');
    this.#stillCreating();
    this.#instance = await driver.start({
      id: this.id,
      runtime: shape.runtime,
      isolation: 'runc',
      network: 'none',
      limits: { memoryMb: shape.memoryMb, cpus: shape.cpus },
      heapMemoryMb: shape.memoryMb,
      taskDir,
      cacheDir,
      channelDir,
      nonce,
    });
    this.#instance.onOutput((stream, bytes) => this.#receiveRaw(stream, bytes));
    const exitedEarly = this.#instance.exited.then((exit) => {
      this.#hungUp(undefined, exit);
      throw new Error(`the runtime ended before it connected (${describeExit(exit)}) ${this.#bootOutput}`.trimEnd());
    });
    exitedEarly.catch(() => {
      // Raced below; later the conversation is what notices.
    });
    const stopped = this.ended.then(() => Promise.reject(new Error(STOPPED_EARLY)));
    stopped.catch(() => {});
    const stream = await Promise.race([this.#instance.channel, exitedEarly, stopped]);
    this.#stillCreating();
    const conversation = new Conversation({
      stream,
      nonce,
      helloDeadlineMs: HELLO_DEADLINE_MS,
      pingIntervalMs: PING_INTERVAL_MS,
    });
    this.#conversation = conversation;
    conversation.listen({
      wantsLog: (bytes) => this.#listener?.wantsLog(bytes) ?? false,
      log: (message, text) => this.#listener?.log(message, text),
      closed: (violation) => this.#hungUp(violation),
    });
    // A process that ended while something else holds its socket open must not look alive.
    exitedEarly.catch(() => conversation.close());
    await conversation.hello;
    this.#stillCreating();
    this.#enter('blank');
  }

  /** Before there is code, output is a runtime's complaint about its boot, which belongs into the error. */
  #receiveRaw(stream: OutputStream, bytes: Buffer): void {
    if (this.#listener !== undefined) this.#listener.raw(stream, bytes);
    else this.#bootOutput = (this.#bootOutput + bytes.toString()).slice(0, BOOT_OUTPUT_CHARS_MAX);
  }

  /** A stop may come while something is awaited, and then what was just made has to go too. */
  #stillCreating(): void {
    if (this.#state === 'creating') return;
    this.#conversation?.close();
    throw new Error(STOPPED_EARLY);
  }

  #conversationIn(state: SandboxState): Conversation {
    if (this.#state !== state || this.#conversation === undefined) {
      throw new Error(`sandbox ${this.id} is ${this.#state}, not ${state}`);
    }
    return this.#conversation;
  }

  /**
   * One timer for the sandbox's life, moved forward by each run: it can only fire `timeoutMs` after the start of the
   * newest one, so firing while busy means that this one is over its time, and firing while idle means nothing.
   */
  #armDeadline(): void {
    if (this.#deadline !== undefined) {
      this.#deadline.refresh();
      return;
    }
    this.#deadline = setTimeout(() => {
      if (this.#state === 'busy') this.stop('deadline');
    }, this.shape.timeoutMs);
  }

  #hungUp(violation: ProtocolViolation | undefined, exit?: SandboxExit): void {
    this.#stopWith(async () => {
      if (violation !== undefined) return { kind: 'violation', violation };
      return { kind: 'exit', exit: exit ?? (await this.#exitWithin(EXIT_GRACE_MS)) };
    });
  }

  async #exitWithin(graceMs: number): Promise<SandboxExit | undefined> {
    if (this.#instance === undefined) return undefined;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<undefined>((resolve) => {
      timer = setTimeout(() => resolve(undefined), graceMs);
    });
    const exit = await Promise.race([this.#instance.exited, late]);
    clearTimeout(timer);
    return exit;
  }

  #stopWith(findEnd: () => Promise<SandboxEnd>): void {
    if (this.#state === 'stopping' || this.#state === 'gone' || this.#state === 'quarantined') return;
    this.#enter('stopping');
    clearTimeout(this.#deadline);
    // The kernel's evidence does not wait.
    this.#instance?.channelClosed();
    this.#conversation?.close();
    void findEnd()
      .then((end) => this.#end(end))
      .then(() => this.#remove());
  }

  async #remove(): Promise<void> {
    const { log, places } = this.options;
    try {
      // What is being made can only be removed once it exists. The driver bounds how long that takes, and boot
      // waits for nothing else once the end is known.
      await this.#booting?.catch(() => {});
      await this.#instance?.stop();
      await places.remove(this.id);
      this.#enter('gone');
    } catch (err) {
      if (this.#state !== 'quarantined') {
        log.error({ err, sandbox: this.id }, 'sandbox_quarantined');
        this.#enter('quarantined');
      }
      setTimeout(() => void this.#remove(), QUARANTINE_RETRY_MS).unref();
    }
    this.#settle();
  }

  #enter(state: SandboxState): void {
    const from = this.#state;
    if (!NEXT[from].includes(state)) throw new Error(`sandbox ${this.id} cannot go from ${from} to ${state}`);
    this.#state = state;
    this.options.changed(this, from);
  }
}

function describeExit(exit: SandboxExit | undefined): string {
  if (exit?.outOfMemory) return 'out of memory';
  if (exit?.signal !== undefined) return `signal ${exit.signal}`;
  return exit?.code === undefined ? 'status unknown' : `status ${exit.code}`;
}
