import { FleetError } from '@lambda-fleet/common/errors';
import { isRefusal } from './batch-committer.js';
import { type BatchLimits, batchLength } from './batch-length.js';

export interface GroupCommitOptions<E, R> extends BatchLimits<E> {
  /** For errors: what the entries are. */
  readonly what: string;
  /** Writes all entries in one statement and returns what became of each, in their order. Rejects when none was written. */
  readonly commit: (entries: readonly E[]) => Promise<readonly R[]>;
  /** Statements at the same time. */
  readonly inFlightMax: number;
  /** How long the first entry waits for company, milliseconds. Default 0: for what else comes in the same turn. */
  readonly lingerMs?: number;
  /** Entries that wait or are written; more are refused. */
  readonly pendingMax: number;
}

interface Waiting<E, R> {
  readonly entry: E;
  readonly resolve: (result: R) => void;
  readonly reject: (reason: unknown) => void;
}

/**
 * Writes entries whose submitters wait for the commit, many in one statement.
 *
 * There is no delay: entries of one turn of the event loop go at once, and what comes while as many statements run as may
 * makes up the next one. So a lone entry waits for one commit, and a thousand share one.
 *
 * When the database is away all entries of a statement fail, and may have been written all the same. One that the database
 * will never take fails alone: its statement is halved until it is found.
 */
export class GroupCommit<E, R> {
  #waiting: Waiting<E, R>[] = [];
  #pending = 0;
  #inFlight = 0;
  #scheduled = false;

  readonly #limits: BatchLimits<Waiting<E, R>>;

  constructor(private readonly options: GroupCommitOptions<E, R>) {
    const { sizeOf } = options;
    this.#limits = { ...options, sizeOf: sizeOf && (({ entry }) => sizeOf(entry)) };
  }

  /** Resolves after the commit. @throws FleetError `unavailable` */
  submit(entry: E): Promise<R> {
    if (this.#pending >= this.options.pendingMax) return Promise.reject(tooMany(this.options.what));
    this.#pending += 1;
    const written = new Promise<R>((resolve, reject) => this.#waiting.push({ entry, resolve, reject }));
    if (!this.#scheduled && this.#inFlight < this.options.inFlightMax) {
      this.#scheduled = true;
      const { lingerMs = 0 } = this.options;
      if (lingerMs > 0) setTimeout(() => this.#start(), lingerMs);
      else setImmediate(() => this.#start());
    }
    return written;
  }

  #start(): void {
    this.#scheduled = false;
    while (this.#waiting.length > 0 && this.#inFlight < this.options.inFlightMax) {
      const batch = this.#waiting.splice(0, batchLength(this.#waiting, this.#limits));
      this.#inFlight += 1;
      void this.#write(batch).then(() => {
        this.#inFlight -= 1;
        this.#pending -= batch.length;
        this.#start();
      });
    }
  }

  async #write(batch: readonly Waiting<E, R>[]): Promise<void> {
    try {
      const results = await this.options.commit(batch.map(({ entry }) => entry));
      for (const [at, { resolve }] of batch.entries()) resolve(results[at] as R);
    } catch (err) {
      if (batch.length > 1 && isRefusal(err)) {
        const middle = batch.length >> 1;
        await this.#write(batch.slice(0, middle));
        await this.#write(batch.slice(middle));
      } else {
        for (const { reject } of batch) reject(err);
      }
    }
  }
}

function tooMany(what: string): FleetError {
  return new FleetError(
    'unavailable',
    `The database does not keep up with ${what} at the moment. Try again in a few seconds.`,
  );
}
