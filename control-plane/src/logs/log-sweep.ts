import type { Logger } from '@lambda-fleet/common/logger';
import type { Database } from '../db/database.js';
import { Sweep } from '../db/sweep.js';

export interface LogRetention {
  /** Lines are removed this many days after they were stored. */
  readonly days: number;
  /** For the lines of all projects together, roughly what they take on the disk; above it the oldest go. */
  readonly bytesMax: number;
}

const INTERVAL_MS = 60_000;

/** Rows of one statement: a few milliseconds, in which nobody waits for them. */
const BATCH = 2_000;

/**
 * Removes log lines that are too old, and the oldest when there are too many. Which these are is read from `log_minutes`; the
 * newest minute always stays.
 */
export class LogSweep extends Sweep {
  constructor(
    private readonly database: Database,
    private readonly retention: LogRetention,
    log: Logger,
  ) {
    super('log_line', INTERVAL_MS, log);
  }

  protected async sweep(): Promise<number> {
    const lastId = await this.#lastToRemove();
    if (lastId === undefined) return 0;
    const removed = await this.repeat(BATCH, () => this.#removeUpTo(lastId));
    if (!this.closed) await this.#forgetUpTo(lastId);
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
