import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from '@lambda-fleet/common/logger';
import type { Database } from '../db/database.js';

/** How long a key stands for its request. */
const HOURS = 24;

const INTERVAL_MS = 5 * 60_000;

/** Rows of one statement: each may hold 6 MB. */
const BATCH = 50;

/** Between two statements, so that removing a backlog leaves the database to others. */
const PAUSE_MS = 20;

/** Removes keys and their answers a day after they were first used, in small statements. */
export class KeySweep {
  readonly #timer: NodeJS.Timeout;
  #closed = false;

  constructor(
    private readonly database: Database,
    private readonly log: Logger,
  ) {
    this.#timer = setInterval(() => void this.run(), INTERVAL_MS);
    this.#timer.unref();
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#timer);
  }

  /** How many it removed. Never rejects. */
  async run(): Promise<number> {
    let removed = 0;
    try {
      for (let rows = BATCH; rows === BATCH && !this.#closed; removed += rows) {
        rows = await this.#removeOld();
        await sleep(PAUSE_MS);
      }
    } catch (err) {
      // The next round finds the same rows.
      this.log.warn({ err }, 'idempotency_key_sweep_failed');
    }
    if (removed > 0) this.log.info({ removed }, 'idempotency_keys_removed');
    return removed;
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
