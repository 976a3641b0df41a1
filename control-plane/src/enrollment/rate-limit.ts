/** So many at once, and then so many a second. */
export class RateLimit {
  #left: number;
  #at: number;

  constructor(
    private readonly burst: number,
    private readonly perSecond: number,
    /** Milliseconds that only rise. */
    private readonly clock: () => number = () => performance.now(),
  ) {
    this.#left = burst;
    this.#at = clock();
  }

  /** Whether there is room for one more, which it then has taken. */
  take(): boolean {
    const now = this.clock();
    this.#left = Math.min(this.burst, this.#left + ((now - this.#at) / 1_000) * this.perSecond);
    this.#at = now;
    if (this.#left < 1) return false;
    this.#left -= 1;
    return true;
  }
}
