import { FleetError } from '@lambda-fleet/common/errors';

/**
 * Bytes of request bodies that this process holds at the same time. Each body
 * has a limit of its own, but thousands of large ones at once would not fit.
 */
export class BodyBudget {
  #held = 0;

  constructor(private readonly bytesMax: number) {}

  /** @throws FleetError `throttled` when it would be too much. */
  take(bytes: number): void {
    if (this.#held + bytes > this.bytesMax) {
      throw new FleetError(
        'throttled',
        'The control plane is holding as many request bodies as it has memory for. Try again in a moment.',
      );
    }
    this.#held += bytes;
  }

  giveBack(bytes: number): void {
    this.#held -= bytes;
  }
}
