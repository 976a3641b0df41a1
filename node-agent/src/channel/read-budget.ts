export interface ReadLimits {
  /** In the long run: bytes, or whatever is spent. */
  readonly perSecond: number;
  /** At once after a quiet time. */
  readonly burst: number;
}

export interface ReadBudgetOptions extends ReadLimits {
  /** Called when nothing more may be read for now; the source must stop. */
  readonly pause: () => void;
  readonly resume: () => void;
}

/** Pauses are no shorter: each costs a timer and a turn of the event loop. */
const PAUSE_MS_MIN = 20;

/**
 * Bounds how fast the agent reads what a sandbox sends, so that one that floods it
 * slows down itself and not its neighbours: its writes block while nobody reads.
 *
 * A token bucket. States: reading ⇄ paused → lifted. The bucket may go below zero by
 * what had been read already; the pause lasts until it is full enough again.
 */
export class ReadBudget {
  #tokens: number;
  #filledAt = performance.now();
  #timer: NodeJS.Timeout | undefined;
  #lifted = false;

  constructor(private readonly options: ReadBudgetOptions) {
    this.#tokens = options.burst;
  }

  /** So much was read, or something as expensive. */
  spend(amount: number): void {
    if (this.#lifted) return;
    this.#tokens -= amount;
    // Filled only when it looks empty: the clock is not asked for every small read.
    if (this.#tokens >= 0 || this.#timer !== undefined) return;
    const { perSecond, burst, pause, resume } = this.options;
    const now = performance.now();
    this.#tokens = Math.min(burst, this.#tokens + ((now - this.#filledAt) / 1_000) * perSecond);
    this.#filledAt = now;
    if (this.#tokens >= 0) return;
    pause();
    const waitMs = Math.max(PAUSE_MS_MIN, (-this.#tokens / perSecond) * 1_000);
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      resume();
    }, waitMs);
  }

  /** No limit from now on, for a source that is ending: what it still holds is bounded and must be read to see its end. */
  lift(): void {
    if (this.#lifted) return;
    this.#lifted = true;
    if (this.#timer === undefined) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.options.resume();
  }
}
