import { FleetError } from '@lambda-fleet/common/errors';
import type { Database } from '../db/database.js';
import type { TickRecord } from './schedule.js';

/** Reads what became of ticks. It is written by the statements that decide it. */
export class TickHistory {
  constructor(private readonly database: Database) {}

  /**
   * Newest first.
   *
   * @param before a position that an earlier page ended with
   */
  list(scheduleId: string, before: string | undefined, limit: number): Promise<readonly TickRecord[]> {
    if (before !== undefined && !/^\d{1,15}$/.test(before)) {
      throw new FleetError('invalid_request', 'cursor is not one that this list gave out.', { field: 'cursor' });
    }
    return this.database.run(
      'list ticks',
      (sql) => sql<TickRecord[]>`
        select id, trigger, tick_at, outcome, invocation_id, count, until, recorded_at from schedule_ticks
        where schedule_id = ${scheduleId} ${before === undefined ? sql`` : sql`and id < ${before}::bigint`}
        order by id desc limit ${limit}`,
    );
  }
}
