/**
 * Bounds the invocations that one control plane works on at once, waiting ones
 * included: each holds a payload of up to 6 MB and an open connection.
 */
export class ConcurrencyLimiter {
  #active = 0;

  constructor(private readonly max: number) {}

  /** True when the caller now holds a permit, which it must {@link release} once. */
  tryAcquire(): boolean {
    if (this.#active >= this.max) return false;
    this.#active += 1;
    return true;
  }

  release(): void {
    this.#active -= 1;
  }
}
