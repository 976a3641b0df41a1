import type { Logger } from '@lambda-fleet/common/logger';
import type { Database } from '../db/database.js';

const INTERVAL_MS = 10 * 60_000;

/** As long as AWS keeps what is in a queue at most. */
const KEPT_DAYS = 14;

/** Rows of one statement: each may hold a megabyte, and none is locked for longer than that takes. */
const BATCH = 200;

/** Removes dead letters that nobody has looked after for a long time, in small statements. */
export class DeadLetterSweep {
  readonly #timer: NodeJS.Timeout;
  #closed = false;

  constructor(
    private readonly database: Database,
    private readonly log: Logger,
  ) {
    this.#timer = setInterval(() => void this.run(), INTERVAL_MS).unref();
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#timer);
  }

  /** How many it removed. Never rejects. */
  async run(): Promise<number> {
    let removed = 0;
    try {
      for (let rows = BATCH; rows === BATCH && !this.#closed; removed += rows) rows = await this.#removeSome();
    } catch (err) {
      // The next round finds the same ones.
      this.log.warn({ err }, 'dead_letter_sweep_failed');
    }
    if (removed > 0) this.log.info({ removed }, 'dead_letters_removed');
    return removed;
  }

  async #removeSome(): Promise<number> {
    const rows = await this.database.run(
      'remove old dead letters',
      (sql) => sql`
        delete from dead_letters where id in (
          select id from dead_letters where died_at < now() - ${KEPT_DAYS} * interval '1 day' order by died_at limit ${BATCH}
        ) returning id`,
    );
    return rows.length;
  }
}
