import { DeadlineExceeded } from '@lambda-fleet/common/deadline';

export interface Amount {
  readonly memoryBytes: number;
  readonly slots: number;
}

interface Waiter {
  readonly amount: Amount;
  readonly enter: () => void;
}

/**
 * Memory and slots of the node, counted twice.
 *
 * *Promised* is what sandboxes have been given that are meant to live; it decides whether an invocation is accepted. A
 * sandbox that is being stopped gives its promise back at once. *Occupied* is what sandboxes really use until they are gone;
 * a new one waits for its predecessor's place here. So an invocation is accepted in the turn in which an idle sandbox
 * is given up for it, and the node's memory is still never used twice.
 */
export class Budget {
  #promised = { memoryBytes: 0, slots: 0 };
  #occupied = { memoryBytes: 0, slots: 0 };
  readonly #waiting: Waiter[] = [];

  constructor(readonly total: Amount) {}

  get promised(): Amount {
    return this.#promised;
  }

  fits(amount: Amount): boolean {
    return fits(this.#promised, amount, this.total);
  }

  promise(amount: Amount): void {
    this.#promised = sum(this.#promised, amount, 1);
  }

  withdraw(amount: Amount): void {
    this.#promised = sum(this.#promised, amount, -1);
  }

  /** Waits in order for a place; rejects with DeadlineExceeded and then occupies nothing. */
  async occupy(amount: Amount, deadlineMs: number): Promise<void> {
    if (this.#waiting.length === 0 && fits(this.#occupied, amount, this.total)) {
      this.#occupied = sum(this.#occupied, amount, 1);
      return;
    }
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
        reject(new DeadlineExceeded('waiting for the memory of stopped sandboxes', deadlineMs));
        this.#admit();
      }, deadlineMs);
      const waiter: Waiter = {
        amount,
        enter: () => {
          clearTimeout(timer);
          resolve();
        },
      };
      this.#waiting.push(waiter);
    });
  }

  vacate(amount: Amount): void {
    this.#occupied = sum(this.#occupied, amount, -1);
    this.#admit();
  }

  #admit(): void {
    for (let first = this.#waiting[0]; first !== undefined; first = this.#waiting[0]) {
      if (!fits(this.#occupied, first.amount, this.total)) return;
      this.#waiting.shift();
      this.#occupied = sum(this.#occupied, first.amount, 1);
      first.enter();
    }
  }
}

function sum(a: Amount, b: Amount, sign: 1 | -1): Amount {
  return { memoryBytes: a.memoryBytes + sign * b.memoryBytes, slots: a.slots + sign * b.slots };
}

function fits(used: Amount, amount: Amount, total: Amount): boolean {
  return used.memoryBytes + amount.memoryBytes <= total.memoryBytes && used.slots + amount.slots <= total.slots;
}
