import { randomBytes } from 'node:crypto';
import { withDeadline } from '@lambda-fleet/common/deadline';
import { imageLoadMs } from '@lambda-fleet/common/image-load';
import type { CompiledFile } from '../channel/compiled-files.js';
import type { InitMessage, InitResult, InvokeMessage } from '../channel/conversation.js';
import type { ProtocolViolation } from '../channel/protocol-violation.js';
import type { RuntimeConversation } from '../channel/runtime-conversation.js';
import { startConversation } from '../channel/start-conversation.js';
import type { OutputStream } from '../drivers/raw-output.js';
import type { SandboxExit, SandboxInstance, SandboxResources } from '../drivers/sandbox-driver.js';
import { RunDeadlines } from './run-deadlines.js';
import type { SandboxDirectories } from './sandbox-directories.js';
import { describeExit, exitWithin } from './sandbox-exit.js';
import { blankLimits, bootSpec, type SandboxKind, startLimits } from './sandbox-kind.js';
import type { SandboxListener } from './sandbox-listener.js';
import type { SandboxOptions, TimedInvokeResult } from './sandbox-options.js';
import { type SandboxShape, shapeKey } from './sandbox-shape.js';
import { isEnding, NEXT_STATES, type SandboxEnd, type SandboxState, type StopReason } from './sandbox-states.js';

/** From the driver's start to the runtime's connection; a loaded machine takes seconds. */
const BOOT_DEADLINE_MS = 30_000;
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
 * - blank: the runtime is up and has no code. It may wait so for a function ({@link assign}). `specialise` → specialising.
 * - specialising: code is loaded. READY → idle.
 * - idle: waits for work, frozen after a while. `invoke` → busy, in the same turn, so that work in flight is never reaped.
 * - busy: invocations run, as many as its version's concurrency allows. The last result → idle.
 * - stopping: entered from any state above by `stop`, or when the runtime hangs up or breaks the protocol. The channel
 *   is closed, {@link ended} resolves, the driver removes the sandbox → gone, or → quarantined when it cannot.
 * - gone: nothing is left.
 * - quarantined: it may still run, and keeps its memory and slot. Removing it is tried again until it works → gone.
 */
export class Sandbox {
  readonly id = randomBytes(8).toString('hex');
  /** Resolves when it is known how the sandbox ended, before it is gone. */
  readonly ended: Promise<SandboxEnd>;
  /** Resolves in gone or quarantined. Never rejects. */
  readonly settled: Promise<void>;
  /** `performance.now()` of the last time it became idle. */
  idleSince = 0;
  /** Invocations it was given; tells whether somebody else's began meanwhile. */
  invocationsBegun = 0;
  #state: SandboxState = 'creating';
  #shape: SandboxShape | undefined;
  #key = '';
  #retired = false;
  #frozen = false;
  #inFlight = 0;
  #instance: SandboxInstance | undefined;
  #booting: Promise<void> | undefined;
  #conversation: RuntimeConversation | undefined;
  #listener: SandboxListener | undefined;
  #directories: SandboxDirectories | undefined;
  #bootOutput = '';
  #deadlines: RunDeadlines | undefined;
  #terminated: StopReason | undefined;
  #end: (end: SandboxEnd) => void = () => {};
  #settle: () => void = () => {};

  constructor(private readonly options: SandboxOptions) {
    if (options.shape !== undefined) this.assign(options.shape);
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

  get kind(): SandboxKind {
    return this.options.kind;
  }

  /** Whether it waits for a function. */
  get isBlank(): boolean {
    return this.#shape === undefined;
  }

  /** What it is for. Throws while it is a blank. */
  get shape(): SandboxShape {
    if (this.#shape === undefined) throw new Error(`sandbox ${this.id} is a blank`);
    return this.#shape;
  }

  /** See {@link shapeKey}; empty while it is a blank. */
  get key(): string {
    return this.#key;
  }

  /** Where the code goes before {@link specialise}. */
  get taskDir(): string {
    return this.#directories?.taskDir ?? '';
  }

  /** Where what was compiled of it goes. */
  get cacheDir(): string {
    return this.#directories?.cacheDir ?? '';
  }

  /** Its memory limit. */
  get memoryMb(): number {
    return this.#shape?.memoryMb ?? blankLimits(this.kind).memoryMb;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  get frozen(): boolean {
    return this.#frozen;
  }

  /** To be stopped instead of being used again. */
  get retired(): boolean {
    return this.#retired;
  }

  /** Whether it can take an invocation now. */
  get open(): boolean {
    if (this.#retired) return false;
    return this.#state === 'idle' || (this.#state === 'busy' && this.#inFlight < this.shape.concurrency);
  }

  retire(): void {
    if (this.#retired) return;
    this.#retired = true;
    this.options.changed(this, this.#state);
  }

  listen(listener: SandboxListener): void {
    this.#listener = listener;
  }

  /** What it takes of the machine; undefined before it runs. */
  get resources(): SandboxResources | undefined {
    return this.#instance;
  }

  /** Gives a blank, booted or booting, to a version. Once, and for good. */
  assign(shape: SandboxShape): void {
    if (this.#shape !== undefined || (this.#state !== 'creating' && this.#state !== 'blank')) {
      throw new Error(`sandbox ${this.id} is not a blank that waits`);
    }
    this.#shape = shape;
    this.#key = shapeKey(shape);
  }

  /** creating → blank; later calls wait for the first. When it rejects the sandbox is stopping, and `ended` says why. */
  async boot(): Promise<void> {
    if (this.#state === 'blank') return;
    try {
      this.#booting ??= this.#boot();
      await withDeadline('starting a sandbox', BOOT_DEADLINE_MS + imageLoadMs(this.kind.image), this.#booting);
    } catch (err) {
      this.stop('boot_failed');
      throw err;
    }
  }

  /** Gives a booted sandbox the limits and the network of its function. Throws when it cannot be held to them. */
  async equip(): Promise<void> {
    const { driver, kind } = this.options;
    const instance = this.#instance;
    if (instance === undefined || isEnding(this.#state)) throw new Error(STOPPED_EARLY);
    if (driver.adjustable) instance.setLimits(startLimits(this.shape, kind));
    if (this.shape.network === 'egress') await instance.setEgressHosts(this.shape.egressHosts);
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
      const result = await conversation.init(message);
      if (result.ready && this.options.driver.adjustable && !isEnding(this.#state)) {
        this.#instance?.setLimits({ memoryMb: this.shape.memoryMb, cpus: this.shape.cpus });
      }
      return result;
    } finally {
      clearTimeout(deadline);
    }
  }

  /**
   * blank → specialising, and no further: the code in {@link taskDir} is compiled, not run, and the caller stops the
   * sandbox afterwards. Rejects with ChannelClosed.
   */
  async compile(): Promise<readonly CompiledFile[]> {
    const conversation = this.#conversationIn('blank');
    if (conversation.compile === undefined) throw new Error(`${this.kind.runtime} does not compile`);
    this.#enter('specialising');
    return await conversation.compile();
  }

  /**
   * idle or busy → busy; the caller calls {@link release} afterwards. Rejects with ChannelClosed, `ended` then says why; or
   * with RunAbandoned.
   */
  async invoke(message: InvokeMessage, event: Buffer): Promise<TimedInvokeResult> {
    const { timeoutMs, concurrency } = this.shape;
    if (!this.open || this.#conversation === undefined) {
      throw new Error(`sandbox ${this.id} is ${this.#state} and takes no invocation`);
    }
    this.#thaw();
    this.#inFlight += 1;
    this.invocationsBegun += 1;
    if (this.#state === 'idle') this.#enter('busy');
    else this.options.changed(this, 'busy');
    this.#deadlines ??= new RunDeadlines(timeoutMs, concurrency, (id) => this.abandon(id, 'deadline'));
    const deadlines = this.#deadlines;
    deadlines.arm(message.id);
    let writtenAt = performance.now();
    let answered = false;
    const answer = this.#conversation.invoke(message, event, () => {
      // A large event is taken piece by piece; its time counts from the last.
      if (answered) return;
      writtenAt = performance.now();
      deadlines.arm(message.id);
    });
    const result = await deadlines.race(message.id, answer);
    answered = true;
    const runUs = Math.round((performance.now() - writtenAt) * 1000);
    return { result, runUs };
  }

  /** Gives one run up: kills the sandbox, or when others run in it, lets these finish first. */
  abandon(id: string, reason: 'deadline' | 'cancelled'): void {
    if (this.#state !== 'busy' || this.#inFlight === 1) {
      // The timer of a sandbox that is idle again means nothing.
      if (reason === 'cancelled' || this.#state === 'busy') this.stop(reason);
      return;
    }
    this.retire();
    this.#deadlines?.abandon(id, reason);
  }

  /** specialising → idle after READY; one run less after a result, with the last of them busy → idle. False when it has ended. */
  release(): boolean {
    if (isEnding(this.#state)) return false;
    if (this.#state === 'busy') this.#inFlight -= 1;
    if (this.#inFlight > 0) {
      this.options.changed(this, 'busy');
      return true;
    }
    this.idleSince = performance.now();
    this.#enter('idle');
    return true;
  }

  /** Stops every process in it until the next invocation, or until it is stopped. */
  freeze(): void {
    if (this.#state !== 'idle' || this.#frozen) return;
    this.#frozen = true;
    this.#conversation?.setFrozen(true);
    this.#instance?.freeze();
  }

  /** → stopping, from any state before; later calls change nothing. */
  stop(reason: StopReason): void {
    this.#stopWith(async () => ({ kind: 'stopped', reason }));
  }

  /** Asks its processes to end. Whatever they do then, it counts as stopped for this reason. */
  terminate(reason: StopReason): void {
    this.#terminated ??= reason;
    this.#instance?.terminate();
  }

  #thaw(): void {
    if (!this.#frozen) return;
    this.#frozen = false;
    this.#instance?.thaw();
    this.#conversation?.setFrozen(false);
  }

  async #boot(): Promise<void> {
    const { driver, places, kind } = this.options;
    this.#directories = await places.make(this.id);
    const nonce = randomBytes(16).toString('hex');
    this.#stillCreating();
    this.#instance = await driver.start({
      ...bootSpec(kind, this.#shape),
      ...this.#directories,
      id: this.id,
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
    const taskRoot = driver.taskRootInside(this.taskDir);
    const conversation = startConversation({ ...kind, stream, nonce, taskRoot });
    this.#conversation = conversation;
    conversation.listen({
      wantsLog: (bytes) => this.#listener?.wantsLog(bytes) ?? false,
      log: (message, text) => this.#listener?.log(message, text) ?? false,
      closed: (violation) => this.#hungUp(violation),
    });
    // A process that ended while something else holds its socket open must not look alive.
    exitedEarly.catch(() => conversation.close());
    await conversation.hello;
    this.#stillCreating();
    this.#enter('blank');
  }

  /** Before there is code, output is a runtime's complaint about its boot, which belongs into the error. */
  #receiveRaw(stream: OutputStream, bytes: Buffer): number {
    if (this.#listener !== undefined) return this.#listener.raw(stream, bytes);
    this.#bootOutput = (this.#bootOutput + bytes.toString()).slice(0, BOOT_OUTPUT_CHARS_MAX);
    return 0;
  }

  /** A stop may come while something is awaited, and then what was just made has to go too. */
  #stillCreating(): void {
    if (this.#state === 'creating') return;
    this.#conversation?.close();
    throw new Error(STOPPED_EARLY);
  }

  #conversationIn(state: SandboxState): RuntimeConversation {
    if (this.#state !== state || this.#conversation === undefined) {
      throw new Error(`sandbox ${this.id} is ${this.#state}, not ${state}`);
    }
    return this.#conversation;
  }

  #hungUp(violation: ProtocolViolation | undefined, exit?: SandboxExit): void {
    if (this.#terminated !== undefined) this.stop(this.#terminated);
    this.#stopWith(async () => {
      if (violation !== undefined) return { kind: 'violation', violation };
      return { kind: 'exit', exit: exit ?? (await exitWithin(this.#instance, EXIT_GRACE_MS)) };
    });
  }

  #stopWith(findEnd: () => Promise<SandboxEnd>): void {
    if (isEnding(this.#state)) return;
    this.#enter('stopping');
    this.#deadlines?.clear();
    // The kernel's evidence does not wait.
    this.#instance?.channelClosed();
    this.#conversation?.close();
    // What is frozen cannot be killed.
    this.#thaw();
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
    if (!NEXT_STATES[from].includes(state)) throw new Error(`sandbox ${this.id} cannot go from ${from} to ${state}`);
    this.#state = state;
    this.options.changed(this, from);
  }
}
