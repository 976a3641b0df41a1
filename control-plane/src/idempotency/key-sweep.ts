import type { Logger } from '@lambda-fleet/common/logger';
import type { Database } from '../db/database.js';
import { Sweep } from '../db/sweep.js';

/** How long a key stands for its request. */
const HOURS = 24;

const INTERVAL_MS = 5 * 60_000;

/** Rows of one statement: each may hold 6 MB. */
const BATCH = 50;

/** Removes keys and their answers a day after they were first used. */
export class KeySweep extends Sweep {
  constructor(
    private readonly database: Database,
    log: Logger,
  ) {
    super('idempotency_key', INTERVAL_MS, log);
  }

  protected sweep(): Promise<number> {
    return this.repeat(BATCH, () => this.#removeOld());
  }

  async #removeOld(): Promise<number> {
    const rows = await this.database.run(
      'remove old idempotency keys',
      (sql) => sql`
        delete from idempotency_keys where (project_id, scope, key) in (
          select project_id, scope, key from idempotency_keys where created_at < now() - ${HOURS} * interval '1 hour'
          order by created_at limit ${BATCH} for update skip locked
        ) returning 1`,
    );
    return rows.length;
  }
}
