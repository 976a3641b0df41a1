import type { Logger } from '@lambda-fleet/common/logger';
import type { Database } from '../db/database.js';
import { Sweep } from '../db/sweep.js';

const INTERVAL_MS = 10 * 60_000;

/** As long as AWS keeps what is in a queue at most. */
const KEPT_DAYS = 14;

/** Rows of one statement: each may hold a megabyte, and none is locked for longer than that takes. */
const BATCH = 200;

/** Removes dead letters that nobody has looked after for a long time. */
export class DeadLetterSweep extends Sweep {
  constructor(
    private readonly database: Database,
    log: Logger,
  ) {
    super('dead_letter', INTERVAL_MS, log);
  }

  protected sweep(): Promise<number> {
    return this.repeat(BATCH, () => this.#removeSome());
  }

  async #removeSome(): Promise<number> {
    const rows = await this.database.run(
      'remove old dead letters',
      (sql) => sql`
        delete from dead_letters where id in (
          select id from dead_letters where died_at < now() - ${KEPT_DAYS} * interval '1 day' order by died_at limit ${BATCH}
          for update skip locked
        ) returning id`,
    );
    return rows.length;
  }
}
