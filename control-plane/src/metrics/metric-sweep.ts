import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from '@lambda-fleet/common/logger';
import type { Database } from '../db/database.js';

export interface MetricRetention {
  readonly minuteDays: number;
  readonly hourDays: number;
}

const INTERVAL_MS = 10 * 60_000;

/** Rows of one statement: a few milliseconds, in which nobody waits for them. */
const BATCH = 1_000;

/** Between two statements, so that removing a backlog leaves the database to others. */
const PAUSE_MS = 20;

/** Removes minutes and hours that are too old, in small statements. Several replicas may do so at once. */
export class MetricSweep {
  readonly #timer: NodeJS.Timeout;
  readonly #closing = new AbortController();

  constructor(
    private readonly database: Database,
    private readonly retention: MetricRetention,
    private readonly log: Logger,
  ) {
    this.#timer = setInterval(() => void this.run(), INTERVAL_MS);
    this.#timer.unref();
  }

  close(): void {
    clearInterval(this.#timer);
    this.#closing.abort();
  }

  /** How many rows it removed. Never rejects. */
  async run(): Promise<number> {
    let removed = 0;
    try {
      for (const per of ['minute', 'hour'] as const) {
        for (let rows = BATCH; rows === BATCH && !this.#closing.signal.aborted; removed += rows) {
          rows = await this.#remove(per);
          await sleep(PAUSE_MS, undefined, { signal: this.#closing.signal }).catch(() => undefined);
        }
      }
    } catch (err) {
      // The next round finds the same rows.
      this.log.warn({ err }, 'metric_sweep_failed');
    }
    return removed;
  }

  async #remove(per: 'minute' | 'hour'): Promise<number> {
    const days = per === 'minute' ? this.retention.minuteDays : this.retention.hourDays;
    const [row] = await this.database.run('remove old metrics', (sql) => {
      const [table, at] = [sql(`function_${per}s`), sql(per)];
      return sql<{ rows: number }[]>`
        with gone as (
          delete from ${table} where (project_id, function_id, ${at}) in (
            select project_id, function_id, ${at} from ${table} where ${at} < now() - ${days} * interval '1 day'
            order by ${at} limit ${BATCH} for update skip locked
          ) returning 1
        )
        select count(*)::integer as rows from gone`;
    });
    return row?.rows ?? 0;
  }
}
