import type { Logger } from '@lambda-fleet/common/logger';
import type { Database } from '../db/database.js';

export interface JobRetention {
  /** Finished jobs are removed after this many days. */
  readonly days: number;
  /** And of each project, all but this many of the newest. */
  readonly perProjectMax: number;
}

const INTERVAL_MS = 10 * 60_000;

/** Rows of one statement: each may hold a megabyte, and none is locked for longer than that takes. */
const BATCH = 200;

/** Removes finished jobs some time after they finished, in small statements. */
export class JobSweep {
  readonly #timer: NodeJS.Timeout;
  #closed = false;

  constructor(
    private readonly database: Database,
    private readonly retention: JobRetention,
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
      for (const remove of [() => this.#removeOld(), () => this.#removeTooMany()]) {
        for (let rows = BATCH; rows === BATCH && !this.#closed; removed += rows) rows = await remove();
      }
    } catch (err) {
      // The next round finds the same jobs.
      this.log.warn({ err }, 'job_sweep_failed');
    }
    if (removed > 0) this.log.info({ removed }, 'jobs_removed');
    return removed;
  }

  async #removeOld(): Promise<number> {
    const rows = await this.database.run(
      'remove old jobs',
      (sql) => sql`
        delete from jobs where id in (
          select id from jobs where finished_at < now() - ${this.retention.days} * interval '1 day'
          order by finished_at limit ${BATCH}
        ) returning id`,
    );
    return rows.length;
  }

  async #removeTooMany(): Promise<number> {
    const rows = await this.database.run(
      'remove jobs over the count',
      (sql) => sql`
        delete from jobs where id in (
          select oldest.id from projects, lateral (
            select id from jobs
            where jobs.project_id = projects.project_id and finished_at is not null
              and id <= (
                select id from jobs newest
                where newest.project_id = projects.project_id and finished_at is not null
                order by id desc offset ${this.retention.perProjectMax} limit 1
              )
            order by id limit ${BATCH}
          ) oldest
          limit ${BATCH}
        ) returning id`,
    );
    return rows.length;
  }
}
