import type { Logger } from '@lambda-fleet/common/logger';
import type { Database } from '../db/database.js';
import { Sweep } from '../db/sweep.js';

export interface JobRetention {
  /** Finished jobs are removed after this many days. */
  readonly days: number;
  /** And of each project, all but this many of the newest. */
  readonly perProjectMax: number;
}

const INTERVAL_MS = 10 * 60_000;

/** Rows of one statement: each may hold a megabyte, and none is locked for longer than that takes. */
const BATCH = 200;

/** Removes finished jobs some time after they finished. */
export class JobSweep extends Sweep {
  constructor(
    private readonly database: Database,
    private readonly retention: JobRetention,
    log: Logger,
  ) {
    super('job', INTERVAL_MS, log);
  }

  protected async sweep(): Promise<number> {
    const old = await this.repeat(BATCH, () => this.#removeOld());
    return old + (await this.repeat(BATCH, () => this.#removeTooMany()));
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
