import { withDeadline } from './deadline.js';
import type { Logger } from './logger.js';

interface Release {
  readonly what: string;
  readonly deadlineMs: number;
  readonly run: () => void | Promise<void>;
}

/**
 * Releases what a process holds, newest first: whatever was created later may
 * use what was created earlier, so it has to go before it.
 *
 * Each release has a deadline of its own; one that fails or hangs is logged and
 * the others still run.
 */
export class Lifecycle {
  readonly #releases: Release[] = [];
  readonly #hurry = new AbortController();
  #closing: Promise<void> | undefined;

  constructor(private readonly log: Logger) {}

  onClose(what: string, run: () => void | Promise<void>, deadlineMs = 5_000): void {
    this.#releases.push({ what, run, deadlineMs });
  }

  /** Aborted when nobody wants to wait for what runs any more. Releases may be waiting for that, or begin later. */
  get hurried(): AbortSignal {
    return this.#hurry.signal;
  }

  hurry(): void {
    this.#hurry.abort();
  }

  /** Runs every release once, however often it is called. Never rejects. */
  close(): Promise<void> {
    this.#closing ??= this.#releaseAll();
    return this.#closing;
  }

  async #releaseAll(): Promise<void> {
    for (const release of this.#releases.reverse()) {
      try {
        await withDeadline(`closing ${release.what}`, release.deadlineMs, Promise.resolve(release.run()));
      } catch (err) {
        this.log.error({ err, what: release.what }, 'close_failed');
      }
    }
  }
}
