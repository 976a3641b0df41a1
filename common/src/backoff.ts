export interface BackoffOptions {
  /** Upper bound of the first delay, milliseconds. */
  readonly firstMs: number;
  /** Upper bound of every delay, milliseconds. */
  readonly capMs: number;
}

/**
 * Delays that double from `firstMs` to `capMs`, each drawn between half of its
 * bound and the bound, so that many clients cut off at once do not return at once.
 */
export class Backoff {
  #attempt = 0;

  constructor(private readonly options: BackoffOptions) {}

  /** Milliseconds to wait before the next try. */
  next(): number {
    const bound = Math.min(this.options.capMs, this.options.firstMs * 2 ** this.#attempt);
    this.#attempt += 1;
    return bound / 2 + Math.random() * (bound / 2);
  }

  /** Call after a success that lasted: the next failure starts from `firstMs` again. */
  reset(): void {
    this.#attempt = 0;
  }
}
