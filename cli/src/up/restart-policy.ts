/** Deaths within the window that end the whole, unless somebody says otherwise. */
export const DEATHS_MAX = 5;
export const WINDOW_MS = 60_000;

/** Wait before the nth restart within the window, milliseconds: at once the first time, then a little longer each. */
const DELAYS_MS = [0, 250, 500, 1_000] as const;

/**
 * Counts the deaths of one child within a sliding minute. A child that dies now
 * and then is started again at once; one that cannot live ends the whole.
 */
export class RestartPolicy {
  #deaths: number[] = [];

  constructor(
    private readonly deathsMax: number = DEATHS_MAX,
    private readonly now: () => number = () => performance.now(),
  ) {}

  /** Call at each death. Returns how long to wait before the next start, or undefined when it is enough. */
  died(): number | undefined {
    const now = this.now();
    this.#deaths = [...this.#deaths.filter((at) => now - at < WINDOW_MS), now];
    if (this.#deaths.length >= this.deathsMax) return undefined;
    return DELAYS_MS[Math.min(this.#deaths.length, DELAYS_MS.length) - 1];
  }
}
