/** What is older says nothing of now. */
const RECENT_MS = 300;

/** Weight of the newest measurement. */
const WEIGHT = 0.2;

/** The best is forgotten by this part with each measurement, as a database may move or grow. */
const FORGET = 1.001;

/**
 * How much longer than at its best something takes at the moment: 1 is as good as ever. A ratio, because what is fast depends
 * on where the database is.
 */
export class Slowness {
  #best = Number.POSITIVE_INFINITY;
  #mean = 0;
  #at = Number.NEGATIVE_INFINITY;

  constructor(private readonly now: () => number = () => performance.now()) {}

  took(ms: number): void {
    const now = this.now();
    this.#mean = now - this.#at > RECENT_MS ? ms : this.#mean + WEIGHT * (ms - this.#mean);
    this.#best = Math.min(this.#best * FORGET, ms);
    this.#at = now;
  }

  /** 0 when nothing was measured lately. */
  get ratio(): number {
    return this.now() - this.#at > RECENT_MS ? 0 : this.#mean / Math.max(this.#best, Number.EPSILON);
  }
}
