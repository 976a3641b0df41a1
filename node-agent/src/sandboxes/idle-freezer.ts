import type { Logger } from '@lambda-fleet/common/logger';
import type { Sandbox } from './sandbox.js';

/** Freezing earlier would make a function that is called all the time pay for a thaw at each call. */
const FREEZE_AFTER_MS = 100;

/**
 * Freezes sandboxes that have been idle for a while, so that nothing of theirs runs between calls. One timer for all of
 * them: a sandbox that is busy again a moment later costs nothing.
 */
export class IdleFreezer {
  #timer: NodeJS.Timeout | undefined;

  constructor(
    /** Least recently used first. */
    private readonly idle: ReadonlySet<Sandbox>,
    private readonly log: Logger,
  ) {}

  /** A sandbox became idle. */
  wake(): void {
    this.#timer ??= setTimeout(() => this.#look(), FREEZE_AFTER_MS).unref();
  }

  close(): void {
    clearTimeout(this.#timer);
  }

  #look(): void {
    this.#timer = undefined;
    const now = performance.now();
    let nextMs: number | undefined;
    for (const sandbox of this.idle) {
      if (sandbox.frozen || sandbox.shape.keepRunning) continue;
      const leftMs = sandbox.idleSince + FREEZE_AFTER_MS - now;
      if (leftMs > 0) {
        // The rest became idle later still.
        nextMs = leftMs;
        break;
      }
      try {
        sandbox.freeze();
      } catch (err) {
        this.log.error({ err, sandbox: sandbox.id }, 'sandbox_not_frozen');
        sandbox.stop('evicted');
      }
    }
    if (nextMs !== undefined) this.#timer = setTimeout(() => this.#look(), nextMs).unref();
  }
}
