import { withDeadline } from '@lambda-fleet/common/deadline';
import type { Logger } from '@lambda-fleet/common/logger';
import type { Capacity } from '@lambda-fleet/proto';
import type { SandboxDriver } from '../drivers/sandbox-driver.js';
import { Budget } from './budget.js';
import { Sandbox, type SandboxShape, type SandboxState } from './sandbox.js';
import type { SandboxPlaces } from './sandbox-directories.js';

export interface SandboxPoolOptions {
  readonly driver: SandboxDriver;
  readonly places: SandboxPlaces;
  /** For all sandboxes together, bytes. */
  readonly memoryBytes: number;
  /** Sandboxes at the same time. */
  readonly slots: number;
  readonly log: Logger;
}

/** A new sandbox waits at most so long for the place of one that was given up for it. */
const PLACE_DEADLINE_MS = 30_000;
const CLOSE_DEADLINE_MS = 8_000;

/**
 * All sandboxes of a node and their budget.
 *
 * Idle sandboxes stand in `#idle` in the order in which they became idle: the front is the least recently used, which
 * is given up first; of a version's own, the most recently used is taken, so that the others can grow old. Taking
 * (idle → busy) and reaping (idle → stopping) both happen in the turn of the check.
 */
export class SandboxPool {
  readonly #budget: Budget;
  readonly #all = new Set<Sandbox>();
  /** Those whose place in the budget is taken until they are gone. */
  readonly #occupying = new Set<Sandbox>();
  readonly #idle = new Set<Sandbox>();
  readonly #idleByVersion = new Map<string, Sandbox[]>();
  readonly #keepAlive = new WeakMap<Sandbox, NodeJS.Timeout>();
  readonly #listeners: (() => void)[] = [];
  #closing = false;

  constructor(private readonly options: SandboxPoolOptions) {
    this.#budget = new Budget({ memoryBytes: options.memoryBytes, slots: options.slots });
  }

  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }

  /** The idle sandbox of this version that was used last. The caller must `invoke` it in the same turn. */
  idleOf(versionId: string): Sandbox | undefined {
    return this.#idleByVersion.get(versionId)?.at(-1);
  }

  /**
   * A new sandbox in `creating`, with memory and a slot promised; undefined when the node has no room even without its idle
   * sandboxes. Nothing happens to it before {@link boot}.
   */
  claim(shape: SandboxShape): Sandbox | undefined {
    if (this.#closing) return undefined;
    const sandbox = new Sandbox({
      shape,
      driver: this.options.driver,
      places: this.options.places,
      log: this.options.log,
      changed: (changed, from) => this.#changed(changed, from),
    });
    if (!this.#makeRoom(sandbox)) return undefined;
    this.#budget.promise(sandbox.amount);
    this.#all.add(sandbox);
    this.#notify();
    return sandbox;
  }

  /** Boots a claimed sandbox once its place is free. Resolves with the milliseconds it waited for that. */
  async boot(sandbox: Sandbox): Promise<number> {
    const started = performance.now();
    try {
      await this.#budget.occupy(sandbox.amount, PLACE_DEADLINE_MS);
    } catch (err) {
      // It never existed, so it has nothing to vacate.
      sandbox.stop('boot_failed');
      throw err;
    }
    if (sandbox.state === 'gone') {
      this.#budget.vacate(sandbox.amount);
      throw new Error('the sandbox was stopped while it waited for its place');
    }
    this.#occupying.add(sandbox);
    const waitedMs = performance.now() - started;
    await sandbox.boot();
    return waitedMs;
  }

  /** Takes a sandbox back after READY or a result: it becomes idle, unless it is not wanted any more. */
  giveBack(sandbox: Sandbox, keep: boolean): void {
    if (!keep) sandbox.stop('not_kept');
    else if (sandbox.retired) sandbox.stop('forgotten');
    else sandbox.release();
  }

  /** Stops the sandboxes of these versions: idle ones now, others when their work is done. */
  forget(versionIds: readonly string[]): void {
    const forgotten = new Set(versionIds);
    for (const sandbox of this.#all) {
      if (!forgotten.has(sandbox.shape.versionId)) continue;
      sandbox.retired = true;
      if (sandbox.state === 'idle') sandbox.stop('forgotten');
    }
  }

  capacity(): Capacity {
    const { total, promised } = this.#budget;
    let idleBytes = 0;
    for (const sandbox of this.#idle) idleBytes += sandbox.amount.memoryBytes;
    const counts = new Map<string, { idle: number; busy: number }>();
    for (const sandbox of this.#all) {
      const { state, shape } = sandbox;
      if (state === 'stopping' || state === 'quarantined') continue;
      const count = counts.get(shape.versionId) ?? { idle: 0, busy: 0 };
      if (state === 'idle') count.idle += 1;
      else count.busy += 1;
      counts.set(shape.versionId, count);
    }
    return {
      memoryBytesTotal: total.memoryBytes,
      memoryBytesFree: Math.max(0, total.memoryBytes - promised.memoryBytes + idleBytes),
      slotsTotal: total.slots,
      slotsFree: Math.max(0, total.slots - promised.slots + this.#idle.size),
      versions: [...counts].map(([versionId, count]) => ({ versionId, ...count })),
      blanks: [],
      sandboxesLeaked: 0,
    };
  }

  /** Stops all sandboxes at once. Resolves when they are gone, at the latest after 8 s. */
  async close(): Promise<void> {
    this.#closing = true;
    const all = [...this.#all];
    for (const sandbox of all) sandbox.stop('agent_stopping');
    const gone = Promise.all(all.map((sandbox) => sandbox.settled)).then(() => undefined);
    await withDeadline('stopping all sandboxes', CLOSE_DEADLINE_MS, gone);
  }

  #makeRoom(sandbox: Sandbox): boolean {
    if (this.#budget.fits(sandbox.amount)) return true;
    const { total, promised } = this.#budget;
    let memoryBytes = total.memoryBytes - promised.memoryBytes;
    let slots = total.slots - promised.slots;
    const victims: Sandbox[] = [];
    for (const idle of this.#idle) {
      if (memoryBytes >= sandbox.amount.memoryBytes && slots >= sandbox.amount.slots) break;
      victims.push(idle);
      memoryBytes += idle.amount.memoryBytes;
      slots += idle.amount.slots;
    }
    // Nothing is given up for an invocation that will be refused anyway.
    if (memoryBytes < sandbox.amount.memoryBytes || slots < sandbox.amount.slots) return false;
    for (const victim of victims) victim.stop('evicted');
    return true;
  }

  #changed(sandbox: Sandbox, from: SandboxState): void {
    const { state } = sandbox;
    if (from === 'idle') this.#leaveIdle(sandbox);
    if (state === 'idle') this.#enterIdle(sandbox);
    if (state === 'stopping') this.#budget.withdraw(sandbox.amount);
    if (state === 'quarantined') this.#budget.promise(sandbox.amount);
    if (state === 'gone') {
      this.#all.delete(sandbox);
      if (from === 'quarantined') this.#budget.withdraw(sandbox.amount);
      if (this.#occupying.delete(sandbox)) this.#budget.vacate(sandbox.amount);
    }
    if (state === 'stopping') clearTimeout(this.#keepAlive.get(sandbox));
    this.#notify();
  }

  #enterIdle(sandbox: Sandbox): void {
    this.#idle.add(sandbox);
    const siblings = this.#idleByVersion.get(sandbox.shape.versionId);
    if (siblings === undefined) this.#idleByVersion.set(sandbox.shape.versionId, [sandbox]);
    else siblings.push(sandbox);
    const timer = this.#keepAlive.get(sandbox);
    if (timer !== undefined) timer.refresh();
    // Left running while the sandbox is busy, where it means nothing; becoming idle moves it forward.
    else
      this.#keepAlive.set(
        sandbox,
        setTimeout(() => this.#reap(sandbox), sandbox.shape.keepAliveMs),
      );
  }

  #leaveIdle(sandbox: Sandbox): void {
    this.#idle.delete(sandbox);
    const siblings = this.#idleByVersion.get(sandbox.shape.versionId) ?? [];
    // Nearly always the last one.
    siblings.splice(siblings.lastIndexOf(sandbox), 1);
    if (siblings.length === 0) this.#idleByVersion.delete(sandbox.shape.versionId);
  }

  #reap(sandbox: Sandbox): void {
    if (sandbox.state === 'idle') sandbox.stop('keep_alive_over');
  }

  #notify(): void {
    for (const listener of this.#listeners) listener();
  }
}
