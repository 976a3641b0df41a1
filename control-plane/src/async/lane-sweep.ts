import type { Logger } from '@lambda-fleet/common/logger';
import type { Database } from '../db/database.js';
import { Sweep } from '../db/sweep.js';

const INTERVAL_MS = 10 * 60_000;

const BATCH = 1_000;

/**
 * Removes lanes that say nothing any more, those of deleted functions among them: with nothing queued, and served no more than
 * the others. Such a one would begin where the others are if it were used again, as it does when there is no row of it.
 */
export class LaneSweep extends Sweep {
  constructor(
    private readonly database: Database,
    log: Logger,
  ) {
    super('lane', INTERVAL_MS, log);
  }

  protected sweep(): Promise<number> {
    return this.repeat(BATCH, () => this.#removeSome());
  }

  async #removeSome(): Promise<number> {
    const rows = await this.database.run(
      'remove lanes',
      (sql) => sql`
        delete from lanes where id in (
          select id from lanes
          where queued = 0 and next_due is null
            and virtual_time <= coalesce((select min(virtual_time) from lanes where next_due <= now()), 'infinity')
          limit ${BATCH} for update skip locked
        ) returning 1`,
    );
    return rows.length;
  }
}
