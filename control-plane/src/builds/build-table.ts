import { FleetError } from '@lambda-fleet/common/errors';
import { validate as isUuid } from 'uuid';
import type { Artifact } from '../artifacts/postgres-artifact-store.js';
import type { Sql } from '../db/connection-target.js';
import type { Database } from '../db/database.js';
import type { BuildRecord, BuildState, StoredBuildLine } from './build-record.js';

/** How long a replica may be silent about a build that it runs. */
const ABANDONED_AFTER_S = 30;

export interface NewBuildLine extends StoredBuildLine {
  readonly projectId: string;
  readonly buildId: string;
}

export type BuildEnding =
  | { readonly state: 'succeeded'; readonly version: number; readonly warnings: readonly string[] }
  | { readonly state: 'failed'; readonly code: string; readonly message: string }
  | { readonly state: 'cancelled' };

/** `builds` and `build_lines`. A finished build never changes. */
export class BuildTable {
  constructor(private readonly database: Database) {}

  async insert(projectId: string, id: string, functionName: string, context: Artifact): Promise<BuildRecord> {
    const [row] = await this.database.run(
      'insert build',
      (sql) => sql<BuildRecord[]>`
        insert into builds (id, project_id, function_name, state, context_sha256, context_bytes)
        values (${id}, ${projectId}, ${functionName}, 'queued', ${context.sha256}, ${context.bytes})
        returning ${columns(sql)}`,
    );
    if (row === undefined) throw new Error('an insert returned nothing');
    return row;
  }

  /** Newest first. */
  list(projectId: string, functionName: string, limit: number, beforeId?: string): Promise<readonly BuildRecord[]> {
    if (beforeId !== undefined && !isUuid(beforeId)) {
      throw new FleetError('invalid_request', 'cursor is not one that this list gave out.', { field: 'cursor' });
    }
    return this.database.run(
      'list builds',
      (sql) => sql<BuildRecord[]>`
        select ${columns(sql)} from builds
        where project_id = ${projectId} and function_name = ${functionName}
          ${beforeId === undefined ? sql`` : sql`and id < ${beforeId}`}
        order by id desc limit ${limit}`,
    );
  }

  /** @throws FleetError `build_not_found` */
  async get(projectId: string, functionName: string, id: string): Promise<BuildRecord> {
    const [row] = isUuid(id)
      ? await this.database.run(
          'get build',
          (sql) => sql<BuildRecord[]>`
            select ${columns(sql)} from builds
            where project_id = ${projectId} and function_name = ${functionName} and id = ${id}`,
        )
      : [];
    return row ?? notFound();
  }

  async advance(id: string, state: BuildState, nodeId: string): Promise<void> {
    await this.database.run(
      'advance build',
      (sql) => sql`
        update builds set state = ${state}, node_id = ${nodeId}, renewed_at = now()
        where id = ${id} and finished_at is null`,
    );
  }

  async finish(id: string, ending: BuildEnding): Promise<void> {
    await this.database.run('finish build', (sql) => {
      const error = ending.state === 'failed' ? sql.json({ code: ending.code, message: ending.message }) : null;
      const version = ending.state === 'succeeded' ? ending.version : null;
      const warnings = sql.json(ending.state === 'succeeded' ? [...ending.warnings] : []);
      return sql`
        update builds set state = ${ending.state}, finished_at = now(), error = ${error}::jsonb,
          version = ${version}::integer, warnings = ${warnings}::jsonb
        where id = ${id} and finished_at is null`;
    });
  }

  /** Says that these builds are still run. Returns those that somebody wants cancelled. */
  async renew(ids: readonly string[]): Promise<readonly string[]> {
    if (ids.length === 0) return [];
    const rows = await this.database.run(
      'renew builds',
      (sql) => sql<{ id: string; cancelRequested: boolean }[]>`
        update builds set renewed_at = now() where id in ${sql([...ids])} and finished_at is null
        returning id, cancel_requested`,
    );
    return rows.filter((row) => row.cancelRequested).map(({ id }) => id);
  }

  /** @throws FleetError `build_not_found` */
  async requestCancel(projectId: string, functionName: string, id: string): Promise<void> {
    const rows = isUuid(id)
      ? await this.database.run(
          'cancel build',
          (sql) => sql<{ id: string }[]>`
            update builds set cancel_requested = true
            where project_id = ${projectId} and function_name = ${functionName} and id = ${id}
            returning id`,
        )
      : [];
    if (rows.length === 0) notFound();
  }

  /** Ends builds whose replica is gone. Returns how many there were. */
  async failAbandoned(): Promise<number> {
    const error = {
      code: 'unavailable',
      message: 'The control plane that ran this build stopped. Nothing was deployed; deploy again.',
    };
    const rows = await this.database.run(
      'fail abandoned builds',
      (sql) => sql<{ id: string }[]>`
        update builds set state = 'failed', finished_at = now(), error = ${sql.json(error)}::jsonb
        where finished_at is null and renewed_at < now() - make_interval(secs => ${ABANDONED_AFTER_S})
        returning id`,
    );
    return rows.length;
  }

  /** Removes builds that are older than 30 days, or not among the newest 20 of their function. */
  async removeOld(): Promise<number> {
    const rows = await this.database.run(
      'remove old builds',
      (sql) => sql<{ id: string }[]>`
        delete from builds where finished_at is not null and (
          created_at < now() - interval '30 days' or id in (
            select id from (
              select id, row_number() over (partition by project_id, function_name order by id desc) as n from builds
            ) numbered where n > 20
          )
        ) returning id`,
    );
    return rows.length;
  }

  /** In one statement; a line that is there already stays as it is. */
  async appendLines(lines: readonly NewBuildLine[]): Promise<void> {
    const rows = lines.map(({ projectId, buildId, sequence, at, stream, text }) => ({
      project_id: projectId,
      build_id: buildId,
      sequence,
      at,
      stream,
      text,
    }));
    await this.database.run(
      'store build lines',
      (sql) => sql`insert into build_lines ${sql(rows)} on conflict do nothing`,
    );
  }

  /** The first `limit` lines behind line `sequence`. */
  linesAfter(projectId: string, buildId: string, sequence: number, limit: number): Promise<readonly StoredBuildLine[]> {
    return this.database.run(
      'build lines',
      (sql) => sql<StoredBuildLine[]>`
        select sequence, at, stream, text from build_lines
        where project_id = ${projectId} and build_id = ${buildId} and sequence > ${sequence}
        order by sequence limit ${limit}`,
    );
  }
}

function notFound(): never {
  throw new FleetError(
    'build_not_found',
    'The function has no build with this id. The newest 20 of each function are kept for 30 days.',
  );
}

function columns(sql: Sql) {
  return sql`
    id, function_name, state, context_sha256, context_bytes, node_id, version, error, warnings, created_at,
    finished_at`;
}
