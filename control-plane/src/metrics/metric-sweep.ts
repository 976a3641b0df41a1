import type { Logger } from '@lambda-fleet/common/logger';
import type { Database } from '../db/database.js';
import { Sweep } from '../db/sweep.js';

export interface MetricRetention {
  readonly minuteDays: number;
  readonly hourDays: number;
}

const INTERVAL_MS = 10 * 60_000;

/** Rows of one statement: a few milliseconds, in which nobody waits for them. */
const BATCH = 1_000;

/** Removes minutes and hours that are too old. */
export class MetricSweep extends Sweep {
  constructor(
    private readonly database: Database,
    private readonly retention: MetricRetention,
    log: Logger,
  ) {
    super('metric', INTERVAL_MS, log);
  }

  protected async sweep(): Promise<number> {
    const minutes = await this.repeat(BATCH, () => this.#remove('minute'));
    return minutes + (await this.repeat(BATCH, () => this.#remove('hour')));
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
