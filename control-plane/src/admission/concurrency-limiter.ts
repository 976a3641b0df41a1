/** Whose permits: those of functions with reserved concurrency are not there for others to take. */
export type Share = 'shared' | 'reserved';

/**
 * Bounds the invocations that one control plane works on at once, waiting ones
 * included: each holds a payload of up to 6 MB and an open connection.
 */
export class ConcurrencyLimiter {
  readonly #active: Record<Share, number> = { shared: 0, reserved: 0 };

  /** @param max permits of each share */
  constructor(private readonly max: number) {}

  /** True when the caller now holds a permit, which it must {@link release} once. */
  tryAcquire(share: Share): boolean {
    if (this.#active[share] >= this.max) return false;
    this.#active[share] += 1;
    return true;
  }

  release(share: Share): void {
    this.#active[share] -= 1;
  }
}
