import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from '@lambda-fleet/common/logger';

/** Between two statements, so that removing a backlog leaves the database to others. */
const PAUSE_MS = 20;

/**
 * Removes what nobody needs any more, every so often, in statements that are small enough for nobody to wait for them.
 * Several replicas may sweep at once: each skips the rows that another one is removing.
 */
export abstract class Sweep {
  readonly #timer: NodeJS.Timeout;
  readonly #closing = new AbortController();
  #running = false;

  /** @param what one of the things that it removes, for the log: `dead_letter` */
  constructor(
    private readonly what: string,
    intervalMs: number,
    protected readonly log: Logger,
  ) {
    this.#timer = setInterval(() => void this.run(), intervalMs).unref();
  }

  /** What is being removed stays removed; nothing more is. */
  close(): void {
    clearInterval(this.#timer);
    this.#closing.abort();
  }

  /** How many it removed. Never rejects. */
  async run(): Promise<number> {
    // A backlog may take longer than the interval.
    if (this.#running) return 0;
    this.#running = true;
    try {
      const removed = await this.sweep();
      if (removed > 0) this.log.info({ removed }, `${this.what}s_removed`);
      return removed;
    } catch (err) {
      // The next round finds the same rows.
      if (!this.closed) this.log.warn({ err }, `${this.what}_sweep_failed`);
      return 0;
    } finally {
      this.#running = false;
    }
  }

  /** One round. Returns how many it removed. */
  protected abstract sweep(): Promise<number>;

  protected get closed(): boolean {
    return this.#closing.signal.aborted;
  }

  /**
   * Until a statement finds less than a whole batch. Returns how many rows that was in all.
   *
   * @param remove one statement, which returns its number of rows
   */
  protected async repeat(batch: number, remove: () => Promise<number>): Promise<number> {
    let removed = 0;
    for (let rows = batch; rows === batch && !this.closed; removed += rows) {
      rows = await remove();
      if (rows > 0) await this.pause();
    }
    return removed;
  }

  /** Resolves at once when it is closed. */
  protected pause(): Promise<void> {
    return sleep(PAUSE_MS, undefined, { signal: this.#closing.signal }).catch(() => undefined);
  }
}
