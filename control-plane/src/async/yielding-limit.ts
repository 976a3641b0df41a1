import { type EventLoopUtilization, performance } from 'node:perf_hooks';

const INTERVAL_MS = 100;

/** Part of the time that this process may be busy before async work yields; and below which it takes more again. */
const BUSY = 0.8;
const EASY = 0.6;

/** And how many times longer than at its best the database may take for what is handed in. */
const SLOW = 3;
const QUICK = 2;

const SHRINK = 0.7;
const GROW = 1.2;

/** However busy, so many go on: what was accepted is run, if slowly. */
const LEAST = 4;

/**
 * How many async invocations may be in progress: as many as allowed while this process has time to spare, and fewer and fewer
 * while it has none. Those who wait for an answer, of a sync call or at the door of the queue, go first: what is queued
 * waits for nobody.
 *
 * The measures are how much of the time the event loop is busy, and how slow the database is to those who hand something in at
 * this moment, which work in progress makes it. (Additive growth would take seconds to use a free machine, hence a factor in
 * both directions.)
 */
export class YieldingLimit {
  #limit: number;
  #last: EventLoopUtilization = performance.eventLoopUtilization();
  readonly #timer: NodeJS.Timeout;

  /**
   * @param slowness of the database at the door, see {@link Slowness}
   * @param utilization of the event loop since it was last asked, 0 to 1; for tests
   */
  constructor(
    private readonly max: number,
    private readonly slowness: () => number,
    private readonly utilization: () => number = () => this.#utilization(),
  ) {
    this.#limit = Math.min(max, 4 * LEAST);
    this.#timer = setInterval(() => this.look(), INTERVAL_MS).unref();
  }

  get current(): number {
    return Math.floor(this.#limit);
  }

  /** Done ten times a second without being called. */
  look(): void {
    const busy = this.utilization();
    const slow = this.slowness();
    if (busy > BUSY || slow > SLOW) this.#limit = Math.max(Math.min(LEAST, this.max), this.#limit * SHRINK);
    else if (busy < EASY && slow < QUICK) this.#limit = Math.min(this.max, this.#limit * GROW + 1);
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #utilization(): number {
    const now = performance.eventLoopUtilization();
    const { utilization } = performance.eventLoopUtilization(now, this.#last);
    this.#last = now;
    return utilization;
  }
}
