export interface WaitQueueOptions {
  /** Waiters of one lane; one more is refused. */
  readonly perLaneMax: number;
  /** Waiters of all lanes together. */
  readonly totalMax: number;
}

interface Waiter<T> {
  readonly attempt: () => T | undefined | Promise<T | undefined>;
  readonly settle: (result: T | 'expired') => void;
  settled: boolean;
}

/** Lanes whose first waiter found no place before a pump gives up: what the first ones could not use, others rarely can. */
const FRUITLESS_LANES_MAX = 16;

/**
 * Work that waits until a node has room, in one lane per function.
 *
 * `pump` is called when room may have appeared. It serves the lanes in turn, one
 * waiter each, so that a function with a thousand waiters gets no more than one
 * with two. Within a lane the order is first come, first served: a waiter that
 * still finds no place keeps its position, and its lane is passed over until the
 * next pump. A pump ends when it has passed over {@link FRUITLESS_LANES_MAX} lanes, and
 * the next one begins behind them, so that those that fit nowhere hold up nobody.
 *
 * A waiter is: waiting → placed | expired. The deadline and the pump may meet;
 * whoever settles it first wins, and a place found for an expired waiter is handed
 * to `giveBack`.
 */
export class WaitQueue<T> {
  readonly #lanes = new Map<string, Waiter<T>[]>();
  #total = 0;
  #pumping = false;
  #again = false;

  constructor(
    private readonly options: WaitQueueOptions,
    private readonly giveBack: (place: T) => void,
  ) {}

  get size(): number {
    return this.#total;
  }

  /** Whether someone of this lane waits already: newcomers then have to queue behind. */
  hasWaiters(lane: string): boolean {
    return this.#lanes.has(lane);
  }

  /** Resolves with what `attempt` found, `expired` after `waitMs`, or at once with `full`. */
  wait(lane: string, waitMs: number, attempt: Waiter<T>['attempt']): Promise<T | 'expired' | 'full'> {
    const waiters = this.#lanes.get(lane) ?? [];
    if (waiters.length >= this.options.perLaneMax || this.#total >= this.options.totalMax) {
      return Promise.resolve('full');
    }
    return new Promise((resolve) => {
      const waiter: Waiter<T> = {
        attempt,
        settled: false,
        settle: (result) => {
          waiter.settled = true;
          clearTimeout(timer);
          this.#remove(lane, waiter);
          resolve(result);
        },
      };
      const timer = setTimeout(() => waiter.settle('expired'), waitMs);
      waiters.push(waiter);
      this.#lanes.set(lane, waiters);
      this.#total += 1;
    });
  }

  /** Room may have appeared. Calls while a pump runs are joined into one more round. */
  pump(): void {
    if (this.#total === 0) return;
    this.#again = true;
    if (!this.#pumping) void this.#run();
  }

  async #run(): Promise<void> {
    this.#pumping = true;
    try {
      while (this.#again && this.#total > 0) {
        this.#again = false;
        await this.#serveLanes();
      }
    } finally {
      this.#pumping = false;
    }
  }

  /** Goes round the lanes until none of those that were looked at finds anything. Its cost is that of the attempts it makes. */
  async #serveLanes(): Promise<void> {
    const fruitless: string[] = [];
    // A lane that was served moves behind the others and so comes up again; one that was passed over does not.
    for (const [lane, waiters] of this.#lanes) {
      const waiter = waiters[0];
      if (waiter === undefined) continue;
      const place = await waiter.attempt();
      if (place === undefined) {
        fruitless.push(lane);
        if (fruitless.length >= FRUITLESS_LANES_MAX) break;
      } else if (waiter.settled) {
        this.giveBack(place);
        this.#moveToBack(lane);
      } else {
        waiter.settle(place);
        this.#moveToBack(lane);
      }
    }
    // Those behind them have not been looked at: the next pump begins there.
    if (fruitless.length >= FRUITLESS_LANES_MAX) for (const lane of fruitless) this.#moveToBack(lane);
  }

  #moveToBack(lane: string): void {
    const waiters = this.#lanes.get(lane);
    if (waiters === undefined) return;
    this.#lanes.delete(lane);
    this.#lanes.set(lane, waiters);
  }

  #remove(lane: string, waiter: Waiter<T>): void {
    const waiters = this.#lanes.get(lane);
    const index = waiters?.indexOf(waiter) ?? -1;
    if (waiters === undefined || index < 0) return;
    waiters.splice(index, 1);
    this.#total -= 1;
    if (waiters.length === 0) this.#lanes.delete(lane);
  }
}
