import type { Logger } from '@lambda-fleet/common/logger';
import { NIL } from 'uuid';
import type { Database } from '../db/database.js';
import { Sweep } from '../db/sweep.js';

export interface TickRetention {
  /** History is removed after this many days. */
  readonly days: number;
  /** And of each schedule, all but this many of the newest. */
  readonly perScheduleMax: number;
}

const INTERVAL_MS = 10 * 60_000;

/** Rows of one statement, and schedules that it looks at. */
const BATCH = 500;
const SCHEDULES = 100;

/** Removes history of ticks that is old or too much, and that of schedules that are gone. */
export class TickSweep extends Sweep {
  constructor(
    private readonly database: Database,
    private readonly retention: TickRetention,
    log: Logger,
  ) {
    super('tick', INTERVAL_MS, log);
  }

  protected async sweep(): Promise<number> {
    let removed = await this.repeat(BATCH, () => this.#removeOld());
    // Below every id.
    let after: string | undefined = NIL;
    while (after !== undefined && !this.closed) {
      const { rows, last } = await this.#removeTooMany(after);
      removed += rows;
      // With a full batch there may be more of the same schedules.
      if (rows < BATCH) after = last;
      await this.pause();
    }
    return removed;
  }

  async #removeOld(): Promise<number> {
    const rows = await this.database.run(
      'remove old ticks',
      (sql) => sql`
        delete from schedule_ticks where (schedule_id, id) in (
          select schedule_id, id from schedule_ticks where recorded_at < now() - ${this.retention.days} * interval '1 day'
          order by recorded_at limit ${BATCH} for update skip locked
        ) returning id`,
    );
    return rows.length;
  }

  /** Of the schedules behind `after`, which are found from index entry to index entry. Undefined: these were the last. */
  async #removeTooMany(after: string): Promise<{ readonly rows: number; readonly last: string | undefined }> {
    const [row] = await this.database.run(
      'remove ticks over the count',
      (sql) => sql<{ rows: number; last: string | null }[]>`
        with recursive with_history as (
          (select schedule_id, 1 as place from schedule_ticks where schedule_id > ${after}::uuid order by schedule_id limit 1)
          union all
          select following.schedule_id, place + 1 from with_history, lateral (
            select t.schedule_id from schedule_ticks t where t.schedule_id > with_history.schedule_id
            order by t.schedule_id limit 1
          ) following where place < ${SCHEDULES}
        ), gone as (
          delete from schedule_ticks where (schedule_id, id) in (
            select surplus.schedule_id, surplus.id from with_history, lateral (
              select t.schedule_id, t.id from schedule_ticks t
              where t.schedule_id = with_history.schedule_id and (
                t.id <= (
                  select id from schedule_ticks newest where newest.schedule_id = with_history.schedule_id
                  order by id desc offset ${this.retention.perScheduleMax} limit 1
                ) or not exists (select from schedules s where s.id = with_history.schedule_id)
              )
              order by t.id limit ${BATCH}
            ) surplus
            limit ${BATCH}
          ) returning 1
        )
        select (select count(*)::integer from gone) as rows,
          (select schedule_id from with_history where place = ${SCHEDULES}) as last`,
    );
    return { rows: row?.rows ?? 0, last: row?.last ?? undefined };
  }
}
