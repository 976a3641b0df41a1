import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from '@lambda-fleet/common/logger';
import type { Database } from '../db/database.js';

export interface LogRetention {
  /** Lines are removed this many days after they were stored. */
  readonly days: number;
  /** For the lines of all projects together, roughly what they take on the disk; above it the oldest go. */
  readonly bytesMax: number;
}

const INTERVAL_MS = 60_000;

/** Rows of one statement: a few milliseconds, in which nobody waits for them. */
const BATCH = 2_000;

/** Between two statements, so that removing a backlog leaves the database to others. */
const PAUSE_MS = 20;

/**
 * Removes log lines that are too old, and the oldest when there are too many, in small statements. Which these are is
 * read from `log_minutes`; the newest minute always stays. Several replicas may sweep at once: each skips the rows that
 * another one is removing.
 */
export class LogSweep {
  readonly #timer: NodeJS.Timeout;
  readonly #closing = new AbortController();
  #running = false;

  constructor(
    private readonly database: Database,
    private readonly retention: LogRetention,
    private readonly log: Logger,
  ) {
    this.#timer = setInterval(() => void this.run(), INTERVAL_MS);
    this.#timer.unref();
  }

  close(): void {
    clearInterval(this.#timer);
    this.#closing.abort();
  }

  /** How many lines it removed. Never rejects. */
  async run(): Promise<number> {
    // A backlog may take longer than the interval.
    if (this.#running) return 0;
    this.#running = true;
    let removed = 0;
    try {
      const lastId = await this.#lastToRemove();
      if (lastId !== undefined) {
        for (let rows = BATCH; rows === BATCH && !this.#closing.signal.aborted; removed += rows) {
          rows = await this.#removeUpTo(lastId);
          await sleep(PAUSE_MS, undefined, { signal: this.#closing.signal }).catch(() => undefined);
        }
        if (!this.#closing.signal.aborted) await this.#forgetUpTo(lastId);
      }
    } catch (err) {
      // The next round finds the same lines.
      this.log.warn({ err }, 'log_sweep_failed');
    } finally {
      this.#running = false;
    }
    if (removed > 0) this.log.info({ removed }, 'log_lines_removed');
    return removed;
  }

  async #lastToRemove(): Promise<number | undefined> {
    const { days, bytesMax } = this.retention;
    const [row] = await this.database.run(
      'find old log lines',
      (sql) => sql<{ lastId: number | null }[]>`
        select max(last_id) as last_id from (
          select minute, last_id, sum(bytes) over (order by minute desc) as bytes_since,
            max(minute) over () as newest
          from log_minutes
        ) minutes
        where minute < newest
          and (minute < now() - ${days} * interval '1 day' or bytes_since > ${bytesMax})`,
    );
    return row?.lastId ?? undefined;
  }

  async #removeUpTo(lastId: number): Promise<number> {
    const rows = await this.database.run(
      'remove log lines',
      (sql) => sql`
        with gone as (
          delete from log_lines where id in (
            select id from log_lines where id <= ${lastId} order by id limit ${BATCH} for update skip locked
          ) returning 1
        )
        select count(*)::integer as lines from gone`,
    );
    return Number(rows[0]?.lines ?? 0);
  }

  async #forgetUpTo(lastId: number): Promise<void> {
    await this.database.run('forget log minutes', (sql) => sql`delete from log_minutes where last_id <= ${lastId}`);
  }
}
