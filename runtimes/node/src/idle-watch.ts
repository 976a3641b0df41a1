import type { Channel } from './channel.js';

/**
 * Notices that the event loop has run dry: nothing is left in the whole process, of any invocation, that could still call
 * back. While somebody waits for that, the channel alone does not keep the process alive.
 */
export class IdleWatch {
  readonly #waiting = new Set<() => void>();

  constructor(private readonly channel: Channel) {}

  /** Calls `dry` once, when nothing is left; returns how to stop waiting. */
  readonly whenNothingIsLeft = (dry: () => void): (() => void) => {
    if (this.#waiting.size === 0) {
      process.on('beforeExit', this.#onDry);
      this.channel.holdOpen(false);
    }
    this.#waiting.add(dry);
    return () => {
      if (this.#waiting.delete(dry) && this.#waiting.size === 0) {
        this.#stop();
      }
    };
  };

  readonly #onDry = (): void => {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    this.#stop();
    for (const dry of waiting) {
      dry();
    }
  };

  #stop(): void {
    process.off('beforeExit', this.#onDry);
    this.channel.holdOpen(true);
  }
}
