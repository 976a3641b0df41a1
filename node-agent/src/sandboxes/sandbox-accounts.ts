import { type Amount, Budget } from './budget.js';
import type { Sandbox } from './sandbox.js';

const MB = 1024 * 1024;
/** A new sandbox waits at most so long for the place of one that was given up for it. */
const PLACE_DEADLINE_MS = 30_000;

export function amountOf(memoryMb: number): Amount {
  return { memoryBytes: memoryMb * MB, slots: 1 };
}

/**
 * What each sandbox holds of the node's budget, promised and occupied, so that it gives back exactly that. A blank holds
 * little, and more from the moment it has a function.
 */
export class SandboxAccounts {
  readonly #budget: Budget;
  readonly #promised = new Map<Sandbox, Amount>();
  readonly #occupied = new Map<Sandbox, Amount>();
  readonly #occupying = new WeakMap<Sandbox, Promise<void>>();

  constructor(total: Amount) {
    this.#budget = new Budget(total);
  }

  get total(): Amount {
    return this.#budget.total;
  }

  /** What is neither promised nor given to anybody. */
  get free(): Amount {
    const { total, promised } = this.#budget;
    return { memoryBytes: total.memoryBytes - promised.memoryBytes, slots: total.slots - promised.slots };
  }

  promisedTo(sandbox: Sandbox): Amount {
    return this.#promised.get(sandbox) ?? NOTHING;
  }

  /** Promises it this much instead of what it was promised before. */
  promise(sandbox: Sandbox, amount: Amount): void {
    this.withdraw(sandbox);
    this.#promised.set(sandbox, amount);
    this.#budget.promise(amount);
  }

  withdraw(sandbox: Sandbox): void {
    const amount = this.#promised.get(sandbox);
    if (amount === undefined) return;
    this.#promised.delete(sandbox);
    this.#budget.withdraw(amount);
  }

  /**
   * Waits until the sandbox has the place it was promised. Rejects with DeadlineExceeded, and then nothing has changed.
   * When the sandbox is gone by then, its place is free again.
   */
  occupy(sandbox: Sandbox): Promise<void> {
    // One after the other: a blank may be given to a version while it still waits to be booted.
    const earlier = this.#occupying.get(sandbox) ?? Promise.resolve();
    const occupied = earlier.catch(() => {}).then(() => this.#occupyMore(sandbox));
    this.#occupying.set(sandbox, occupied);
    return occupied;
  }

  /** It is gone. */
  vacate(sandbox: Sandbox): void {
    const amount = this.#occupied.get(sandbox);
    if (amount === undefined) return;
    this.#occupied.delete(sandbox);
    this.#budget.vacate(amount);
  }

  async #occupyMore(sandbox: Sandbox): Promise<void> {
    const amount = this.#promised.get(sandbox);
    if (amount === undefined) return;
    const before = this.#occupied.get(sandbox) ?? NOTHING;
    const more = {
      memoryBytes: amount.memoryBytes - before.memoryBytes,
      slots: amount.slots - before.slots,
    };
    await this.#budget.occupy(more, PLACE_DEADLINE_MS);
    if (sandbox.state === 'gone') this.#budget.vacate(more);
    else this.#occupied.set(sandbox, amount);
  }
}

const NOTHING: Amount = { memoryBytes: 0, slots: 0 };
