import { withDeadline } from '@lambda-fleet/common/deadline';
import type { Logger } from '@lambda-fleet/common/logger';
import type { Capacity } from '@lambda-fleet/proto';
import type { Isolation, SandboxDriver } from '../drivers/sandbox-driver.js';
import { BlankStock } from './blank-stock.js';
import type { Amount } from './budget.js';
import { IdleFreezer } from './idle-freezer.js';
import { IdleSandboxes } from './idle-sandboxes.js';
import { LongRuns } from './long-runs.js';
import { MemoryPressure } from './memory-pressure.js';
import { countSandboxes, type PoolFigures } from './pool-figures.js';
import { Sandbox } from './sandbox.js';
import { amountOf, SandboxAccounts } from './sandbox-accounts.js';
import type { SandboxPlaces } from './sandbox-directories.js';
import { blankLimits, kindOf, type SandboxKind } from './sandbox-kind.js';
import { type SandboxShape, shapeKey } from './sandbox-shape.js';
import { isEnding, type SandboxState } from './sandbox-states.js';

export interface SandboxPoolOptions {
  readonly driver: SandboxDriver;
  readonly places: SandboxPlaces;
  /** For all sandboxes together, bytes. */
  readonly memoryBytes: number;
  /** Sandboxes at the same time, blanks included. */
  readonly slots: number;
  /** Blanks at the same time; 0 keeps none. */
  readonly blanks: number;
  /** Kinds of blanks that were wanted before the agent started, and what to do when that changes. */
  readonly rememberedKinds: readonly SandboxKind[];
  readonly rememberKinds: (kinds: readonly SandboxKind[]) => void;
  /** What the machine could still give to programs, bytes; undefined where it does not say. */
  readonly availableBytes: () => number | undefined;
  readonly log: Logger;
}

const CLOSE_DEADLINE_MS = 8_000;

/**
 * All sandboxes of a node and their budget.
 *
 * Taking a sandbox (idle → busy, or giving a blank to a version) and reaping it (→ stopping) both happen in the turn of
 * the check. When room is needed blanks are given up first, then idle sandboxes, least recently used first, but never those of a
 * version's floor: as many sandboxes as are to be kept ready for it whatever happens.
 */
export class SandboxPool {
  readonly #accounts: SandboxAccounts;
  readonly #all = new Set<Sandbox>();
  readonly #idle = new IdleSandboxes();
  readonly #blanks: BlankStock;
  readonly #freezer: IdleFreezer;
  readonly #longRuns: LongRuns;
  readonly #pressure: MemoryPressure;
  readonly #keepAlive = new WeakMap<Sandbox, NodeJS.Timeout>();
  /** Sandboxes to be kept of a shape, by its key. */
  readonly #floors = new Map<string, number>();
  /** Sandboxes that there are of a shape, those that are being made or used included. */
  readonly #counts = new Map<string, number>();
  readonly #listeners: (() => void)[] = [];
  #closing = false;
  /** Keeps nothing that nobody uses: no blank is made, and {@link giveUpIdle} is called again and again. */
  resting = false;
  /** Sandboxes of this agent that exist and belong to nobody; see {@link LeakWatch}. */
  strangers = 0;

  constructor(private readonly options: SandboxPoolOptions) {
    this.#accounts = new SandboxAccounts({ memoryBytes: options.memoryBytes, slots: options.slots });
    this.#freezer = new IdleFreezer(this.#idle.idle, options.log);
    this.#longRuns = new LongRuns(options.log);
    this.#pressure = new MemoryPressure({
      availableBytes: options.availableBytes,
      giveUpOne: () => this.#giveUpOne(),
      log: options.log,
    });
    this.#blanks = new BlankStock({
      max: options.blanks,
      remembered: options.rememberedKinds,
      onNewKind: options.rememberKinds,
      create: (kind) => this.#createBlank(kind),
      boot: (blank) => this.#bootBlank(blank),
      log: options.log,
    });
  }

  get closing(): boolean {
    return this.#closing;
  }

  /** Whether the sandbox is this pool's: from before it is started until nothing is left of it. */
  knows(sandboxId: string): boolean {
    for (const { id } of this.#all) if (id === sandboxId) return true;
    return false;
  }

  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }

  /** A sandbox that can take an invocation of the version. The caller must `invoke` it in the same turn. */
  openOf(versionId: string, isolation: Isolation): Sandbox | undefined {
    return this.#idle.openOf(shapeKey({ versionId, isolation }));
  }

  /** Sandboxes of this shape, those that are being made or used included. */
  countOf(shape: SandboxShape): number {
    return this.#counts.get(shapeKey(shape)) ?? 0;
  }

  /** Keeps this many sandboxes of a shape from being given up; making them is the caller's. */
  setFloor(shape: SandboxShape, sandboxes: number): void {
    if (sandboxes > 0) this.#floors.set(shapeKey(shape), sandboxes);
    else this.#floors.delete(shapeKey(shape));
  }

  /**
   * A sandbox for this shape alone, with memory and a slot promised: a blank when there is one, else a new one in
   * `creating`. Undefined when the node has no room even without its blanks and idle sandboxes. Nothing happens to it before
   * {@link prepare}.
   */
  claim(shape: SandboxShape): Sandbox | undefined {
    if (this.#closing) return undefined;
    const kind = kindOf(shape, this.options.driver.adjustable);
    const amount = amountOf(shape.memoryMb);
    const blank = kind.image === undefined ? this.#blanks.want(kind) : undefined;
    const held = blank === undefined ? NOTHING : this.#accounts.promisedTo(blank);
    const more = { memoryBytes: amount.memoryBytes - held.memoryBytes, slots: amount.slots - held.slots };
    if (!this.#makeRoom(more, blank)) return undefined;
    const sandbox = blank ?? this.#create(kind, shape);
    if (blank !== undefined) {
      this.#blanks.remove(blank);
      blank.assign(shape);
    }
    return this.#admit(sandbox, amount);
  }

  /**
   * A new sandbox for this shape, to be used once for something that can wait; undefined unless there is room to spare.
   * Nothing is given up for it, and no blank.
   */
  spare(shape: SandboxShape): Sandbox | undefined {
    const amount = amountOf(shape.memoryMb);
    if (!this.#hasToSpare(amount)) return undefined;
    return this.#admit(this.#create(kindOf(shape, this.options.driver.adjustable), shape), amount);
  }

  /** Boots a claimed sandbox once its place is free, and fits it to its function. Resolves with the milliseconds it waited for its place. */
  async prepare(sandbox: Sandbox): Promise<number> {
    const started = performance.now();
    await this.#occupy(sandbox);
    const waitedMs = performance.now() - started;
    await sandbox.boot();
    await sandbox.equip();
    return waitedMs;
  }

  /** Takes a sandbox back after READY or a result: it can be used again, unless it is not wanted any more. */
  giveBack(sandbox: Sandbox, keep: boolean): void {
    if (isEnding(sandbox.state)) return;
    if (!keep) sandbox.retire();
    if (!sandbox.retired) sandbox.release();
    else if (sandbox.inFlight > 1) sandbox.release();
    else sandbox.stop(keep ? 'forgotten' : 'not_kept');
  }

  /** Stops the sandboxes of these versions: idle ones now, others when their work is done. */
  forget(versionIds: readonly string[]): void {
    const forgotten = new Set(versionIds);
    for (const sandbox of this.#all) {
      if (sandbox.isBlank || !forgotten.has(sandbox.shape.versionId)) continue;
      sandbox.retire();
      if (sandbox.state === 'idle') sandbox.stop('forgotten');
    }
  }

  capacity(): Capacity {
    const { total, free } = this.#accounts;
    let { memoryBytes, slots } = free;
    const counts = new Map<string, { idle: number; busy: number; starting: number }>();
    let quarantined = 0;
    for (const sandbox of this.#all) {
      const { state } = sandbox;
      if (state === 'quarantined') quarantined += 1;
      if (isEnding(state)) continue;
      if (sandbox.isBlank || (state === 'idle' && !this.#belongsToFloor(sandbox))) {
        memoryBytes += this.#accounts.promisedTo(sandbox).memoryBytes;
        slots += 1;
      }
      if (sandbox.isBlank) continue;
      const { versionId } = sandbox.shape;
      const count = counts.get(versionId) ?? { idle: 0, busy: 0, starting: 0 };
      if (state === 'idle') count.idle += 1;
      else count.busy += 1;
      if (state !== 'idle' && state !== 'busy') count.starting += 1;
      counts.set(versionId, count);
    }
    return {
      memoryBytesTotal: total.memoryBytes,
      memoryBytesFree: Math.max(0, memoryBytes),
      slotsTotal: total.slots,
      slotsFree: Math.max(0, slots),
      versions: [...counts].map(([versionId, count]) => ({ versionId, ...count })),
      blanks: [...this.#blanks.ready()].map(({ kind, count }) => ({
        runtime: kind.runtime,
        isolation: kind.isolation,
        network: kind.network,
        memoryMb: kind.heapMemoryMb,
        count,
      })),
      sandboxesLeaked: quarantined + this.strangers,
    };
  }

  figures(): PoolFigures {
    const { total, free } = this.#accounts;
    const counted = countSandboxes(this.#all);
    return {
      ...counted,
      memoryPromisedBytes: total.memoryBytes - free.memoryBytes,
      memoryTotalBytes: total.memoryBytes,
      leaked: (counted.states.get('quarantined') ?? 0) + this.strangers,
    };
  }

  /** Whatever there is of sandboxes, those that are ending and those that cannot be ended included. */
  get size(): number {
    return this.#all.size + this.strangers;
  }

  /** Stops blanks and idle sandboxes; those of floors only when they are to go too. */
  giveUpIdle(floorsToo: boolean): void {
    for (const victim of [...(floorsToo ? [...this.#blanks.all(), ...this.#idle.idle] : this.#expendable())])
      victim.stop('evicted');
  }

  /** Stops all sandboxes at once. Resolves when they are gone, at the latest after 8 s. */
  async close(): Promise<void> {
    this.#closing = true;
    this.#blanks.close();
    this.#freezer.close();
    this.#longRuns.close();
    this.#pressure.close();
    const all = [...this.#all];
    for (const sandbox of all) sandbox.stop('agent_stopping');
    const gone = Promise.all(all.map((sandbox) => sandbox.settled)).then(() => undefined);
    await withDeadline('stopping all sandboxes', CLOSE_DEADLINE_MS, gone);
  }

  #create(kind: SandboxKind, shape: SandboxShape | undefined): Sandbox {
    const { driver, places, log } = this.options;
    const changed = (sandbox: Sandbox, from: SandboxState) => this.#changed(sandbox, from);
    const sandbox = new Sandbox({ kind, shape, driver, places, log, changed });
    this.#all.add(sandbox);
    return sandbox;
  }

  #admit(sandbox: Sandbox, amount: Amount): Sandbox {
    this.#accounts.promise(sandbox, amount);
    this.#counts.set(sandbox.key, (this.#counts.get(sandbox.key) ?? 0) + 1);
    this.#notify();
    return sandbox;
  }

  /** For what nobody waits for. As much again stays free: or the next start would have to give up what was just made. */
  #hasToSpare(amount: Amount): boolean {
    const { free } = this.#accounts;
    const spare = free.memoryBytes >= 2 * amount.memoryBytes && free.slots >= 2 * amount.slots;
    return spare && !this.#closing && !this.resting && !this.#pressure.high;
  }

  #createBlank(kind: SandboxKind): Sandbox | undefined {
    const amount = amountOf(blankLimits(kind).memoryMb);
    if (!this.#hasToSpare(amount)) return undefined;
    const blank = this.#create(kind, undefined);
    this.#accounts.promise(blank, amount);
    return blank;
  }

  async #bootBlank(blank: Sandbox): Promise<void> {
    await this.#occupy(blank);
    await blank.boot();
    this.#notify();
  }

  async #occupy(sandbox: Sandbox): Promise<void> {
    try {
      await this.#accounts.occupy(sandbox);
    } catch (err) {
      sandbox.stop('boot_failed');
      throw err;
    }
    if (isEnding(sandbox.state)) throw new Error('the sandbox was stopped while it waited for its place');
  }

  /** Gives up what has to be given up for this amount. Nothing is, when it would not be enough. */
  #makeRoom(amount: Amount, except: Sandbox | undefined): boolean {
    let { memoryBytes, slots } = this.#accounts.free;
    const enough = () => memoryBytes >= amount.memoryBytes && slots >= amount.slots;
    if (enough()) return true;
    const victims: Sandbox[] = [];
    let blanks = 0;
    for (const candidate of this.#expendable()) {
      if (enough()) break;
      if (candidate === except) continue;
      if (candidate.isBlank) blanks += 1;
      victims.push(candidate);
      memoryBytes += this.#accounts.promisedTo(candidate).memoryBytes;
      slots += 1;
    }
    if (!enough()) return false;
    for (const victim of victims) victim.stop('evicted');
    if (blanks > 0) this.#blanks.pressed();
    return true;
  }

  #giveUpOne(): boolean {
    const [first] = this.#expendable();
    if (first === undefined) return false;
    if (first.isBlank) this.#blanks.pressed();
    first.stop('evicted');
    return true;
  }

  *#expendable(): Generator<Sandbox> {
    yield* this.#blanks.all();
    const spared = new Map<string, number>();
    for (const idle of this.#idle.idle) {
      const taken = spared.get(idle.key) ?? 0;
      if ((this.#counts.get(idle.key) ?? 0) - taken <= (this.#floors.get(idle.key) ?? 0)) continue;
      spared.set(idle.key, taken + 1);
      yield idle;
    }
  }

  #belongsToFloor(sandbox: Sandbox): boolean {
    return (this.#counts.get(sandbox.key) ?? 0) <= (this.#floors.get(sandbox.key) ?? 0);
  }

  #changed(sandbox: Sandbox, from: SandboxState): void {
    const { state } = sandbox;
    this.#idle.update(sandbox);
    this.#longRuns.update(sandbox);
    if (state === 'idle' && from !== 'idle') {
      this.#keepAliveFrom(sandbox);
      this.#freezer.wake();
    }
    if (state === 'stopping' && from !== 'stopping') this.#stopping(sandbox);
    if (state === 'quarantined') this.#accounts.promise(sandbox, amountOf(sandbox.memoryMb));
    if (state === 'gone') {
      this.#all.delete(sandbox);
      this.#accounts.withdraw(sandbox);
      this.#accounts.vacate(sandbox);
    }
    this.#notify();
  }

  #stopping(sandbox: Sandbox): void {
    clearTimeout(this.#keepAlive.get(sandbox));
    this.#accounts.withdraw(sandbox);
    if (sandbox.isBlank) {
      this.#blanks.remove(sandbox);
      return;
    }
    const count = (this.#counts.get(sandbox.key) ?? 0) - 1;
    if (count > 0) this.#counts.set(sandbox.key, count);
    else this.#counts.delete(sandbox.key);
  }

  #keepAliveFrom(sandbox: Sandbox): void {
    const timer = this.#keepAlive.get(sandbox);
    if (timer !== undefined) {
      timer.refresh();
      return;
    }
    // Left running while the sandbox is busy, where it means nothing; becoming idle moves it forward.
    const reap = setTimeout(() => {
      if (sandbox.state !== 'idle') return;
      if (this.#belongsToFloor(sandbox)) reap.refresh();
      else sandbox.stop('keep_alive_over');
    }, sandbox.shape.keepAliveMs);
    this.#keepAlive.set(sandbox, reap);
  }

  #notify(): void {
    for (const listener of this.#listeners) listener();
  }
}

const NOTHING: Amount = { memoryBytes: 0, slots: 0 };
