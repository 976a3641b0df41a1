import { setTimeout as sleep } from 'node:timers/promises';
import { Backoff } from '@lambda-fleet/common/backoff';
import type { Logger } from '@lambda-fleet/common/logger';
import { type BatchLimits, batchLength } from './batch-length.js';

export interface BatchCommitterOptions<E> extends BatchLimits<E> {
  /** For logs: what the entries are. */
  readonly what: string;
  /** Writes all entries in one statement. Rejects when none was written. */
  readonly commit: (entries: readonly E[]) => Promise<void>;
  /** Called after a commit, with what it wrote. */
  readonly onCommitted: (entries: readonly E[]) => void;
  /** The database will never take this entry: it is dropped. */
  readonly onRefused: (entry: E, error: unknown) => void;
  /** How long the first entry of a batch waits for company, milliseconds. */
  readonly lingerMs: number;
  readonly log: Logger;
}

/**
 * Writes entries behind, in batches, in order, one batch at a time.
 *
 * One commit costs the database one flush to disk whatever its size, so batches
 * make a single flush serve hundreds of entries. A batch that fails because the
 * database is away is tried again until it succeeds; one that fails because of
 * its data is halved until the guilty entry stands alone, so that one bad entry
 * cannot hold up all others for ever.
 *
 * Entries wait in memory: whoever pushes them keeps a copy elsewhere (an agent
 * until it is acknowledged) or accepts that a crash loses them.
 */
export class BatchCommitter<E> {
  #queue: E[] = [];
  #running: Promise<void> | undefined;
  #pushed = 0;
  #settled = 0;
  /** Who waits until so many entries are settled, in rising order. */
  readonly #waiting: { readonly count: number; readonly wake: () => void }[] = [];
  #closing = false;
  readonly #backoff = new Backoff({ firstMs: 100, capMs: 2_000 });

  constructor(private readonly options: BatchCommitterOptions<E>) {}

  push(entry: E): void {
    this.#queue.push(entry);
    this.#pushed += 1;
    this.#running ??= this.#run();
  }

  /** Resolves when everything that has been pushed until now is committed or refused. */
  caughtUp(): Promise<void> {
    if (this.#settled === this.#pushed) return Promise.resolve();
    return new Promise((wake) => this.#waiting.push({ count: this.#pushed, wake }));
  }

  /** Writes what is queued without lingering. Gives up at the first failure, so that a stop is not held up by a database that is away. */
  async close(): Promise<void> {
    this.#closing = true;
    await this.#running;
  }

  async #run(): Promise<void> {
    try {
      while (this.#queue.length > 0) {
        // A backlog has company enough: lingering would only bound how fast it shrinks.
        if (!this.#closing && !this.#isFull()) await sleep(this.options.lingerMs);
        const batch = this.#queue.splice(0, batchLength(this.#queue, this.options));
        if (!(await this.#write(batch))) return;
      }
    } finally {
      this.#running = undefined;
    }
  }

  #isFull(): boolean {
    return this.#queue.length >= this.options.batchMax || batchLength(this.#queue, this.options) < this.#queue.length;
  }

  /** False when closing and the database is away. */
  async #write(batch: readonly E[]): Promise<boolean> {
    for (;;) {
      try {
        await this.options.commit(batch);
        this.#backoff.reset();
        this.options.onCommitted(batch);
        this.#settle(batch.length);
        return true;
      } catch (err) {
        if (isRefusal(err)) return this.#writeHalves(batch, err);
        this.options.log.warn({ err, what: this.options.what, entries: batch.length }, 'commit_failed');
        if (this.#closing) return false;
        await sleep(this.#backoff.next());
      }
    }
  }

  #settle(count: number): void {
    this.#settled += count;
    while ((this.#waiting[0]?.count ?? Number.POSITIVE_INFINITY) <= this.#settled) this.#waiting.shift()?.wake();
  }

  async #writeHalves(batch: readonly E[], err: unknown): Promise<boolean> {
    const [only] = batch;
    if (only !== undefined && batch.length === 1) {
      this.options.onRefused(only, err);
      this.#settle(1);
      return true;
    }
    const middle = batch.length >> 1;
    return (await this.#write(batch.slice(0, middle))) && (await this.#write(batch.slice(middle)));
  }
}

/** SQLSTATE classes 21 to 23: the statement reached the database and its data was the problem. */
export function isRefusal(err: unknown): boolean {
  const code: unknown = sqlError(err);
  return typeof code === 'string' && /^2[123]/.test(code);
}

/** The SQLSTATE, also when the error was wrapped on its way here. */
function sqlError(err: unknown): unknown {
  for (let at = err, depth = 0; typeof at === 'object' && at !== null && depth < 4; depth += 1) {
    if ('code' in at && typeof at.code === 'string' && /^[0-9A-Z]{5}$/.test(at.code)) return at.code;
    at = 'cause' in at ? at.cause : undefined;
  }
  return undefined;
}
