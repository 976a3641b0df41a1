import type { Logger } from '@lambda-fleet/common/logger';
import type { Database } from '../db/database.js';
import { Sweep } from '../db/sweep.js';

export interface ExecutionRetention {
  /** Executions are removed this many days after they were recorded. */
  readonly days: number;
  /** And of each project, the oldest when there are this many and a hundredth more. */
  readonly perProjectMax: number;
}

/** How long events and results are kept byte for byte. */
export const BODY_HOURS = 24;

const INTERVAL_MS = 60_000;

/** Rows of one statement: some ten milliseconds, in which nobody waits for them. */
const BATCH = 1_000;

/** Of bodies: each may be 12 MB, in pieces of 2 KB. */
const BODIES_BATCH = 20;

/** A row is timed by the statement that inserts it, and can be seen when that has ended: within its deadline. */
const UNSEEN_SECONDS = 10;

/**
 * Removes executions that are too old, and a project's oldest when there are too many; and before them their bodies.
 *
 * Looking for what is too much of a project reads an index entry for each execution that stays: a tenth of a second for a
 * million. So it is done only when there may be that many: at the start, and when as many have been recorded since as a
 * project may have too many.
 */
export class ExecutionSweep extends Sweep {
  /** Of each project, no fewer than it has. */
  readonly #counts = new Map<string, number>();
  #countedUntil: Date | undefined;

  constructor(
    private readonly database: Database,
    private readonly retention: ExecutionRetention,
    log: Logger,
  ) {
    super('execution', INTERVAL_MS, log);
  }

  protected async sweep(): Promise<number> {
    await this.repeat(BODIES_BATCH, () => this.#removeBodies());
    const old = await this.repeat(BATCH, () => this.#removeOld());
    return old + (await this.#removeTooMany());
  }

  async #removeBodies(): Promise<number> {
    const rows = await this.database.run(
      'remove bodies',
      (sql) => sql`
        delete from execution_bodies where execution_id in (
          select execution_id from execution_bodies where kept_at < now() - ${BODY_HOURS} * interval '1 hour'
          order by kept_at limit ${BODIES_BATCH} for update skip locked
        ) returning 1`,
    );
    return rows.length;
  }

  async #removeOld(): Promise<number> {
    const rows = await this.database.run(
      'remove old executions',
      (sql) => sql`
        delete from executions where id in (
          select id from executions where recorded_at < now() - ${this.retention.days} * interval '1 day'
          order by recorded_at limit ${BATCH} for update skip locked
        ) returning 1`,
    );
    return rows.length;
  }

  async #removeTooMany(): Promise<number> {
    const { perProjectMax } = this.retention;
    const most = perProjectMax + Math.floor(perProjectMax / 100);
    for (const { projectId, recorded, until } of await this.#recordedSince()) {
      this.#counts.set(projectId, (this.#counts.get(projectId) ?? Number.POSITIVE_INFINITY) + recorded);
      this.#countedUntil = until;
    }
    let removed = 0;
    for (const [projectId, count] of this.#counts) {
      if (count <= most || this.closed) continue;
      const last = await this.#newestTooMany(projectId);
      if (last !== undefined) removed += await this.repeat(BATCH, () => this.#removeUpTo(projectId, last));
      this.#counts.set(projectId, last === undefined ? await this.#count(projectId) : perProjectMax);
    }
    return removed;
  }

  /** Of each project, no fewer than were recorded since the last time; of the first time, none. */
  async #recordedSince(): Promise<readonly { projectId: string; recorded: number; until: Date }[]> {
    return this.database.run(
      'count new executions',
      (sql) => sql<{ projectId: string; recorded: number; until: Date }[]>`
        select p.project_id, coalesce(new.recorded, 0) as recorded, now() as until
        from projects p left join (
          select project_id, count(*)::integer as recorded from executions
          where recorded_at > ${this.#countedUntil ?? null}::timestamptz - ${UNSEEN_SECONDS} * interval '1 second'
          group by project_id
        ) new using (project_id)`,
    );
  }

  async #newestTooMany(projectId: string): Promise<string | undefined> {
    const [row] = await this.database.run(
      'find executions over the count',
      (sql) => sql<{ id: string }[]>`
        select id from executions where project_id = ${projectId}
        order by id desc offset ${this.retention.perProjectMax} limit 1`,
    );
    return row?.id;
  }

  async #removeUpTo(projectId: string, lastId: string): Promise<number> {
    const rows = await this.database.run(
      'remove executions over the count',
      (sql) => sql`
        delete from executions where id in (
          select id from executions where project_id = ${projectId} and id <= ${lastId}
          order by id limit ${BATCH} for update skip locked
        ) returning 1`,
    );
    return rows.length;
  }

  async #count(projectId: string): Promise<number> {
    const [row] = await this.database.run(
      'count executions',
      (sql) => sql<{ count: number }[]>`
        select count(*)::integer as count from executions where project_id = ${projectId}`,
    );
    return row?.count ?? 0;
  }
}
