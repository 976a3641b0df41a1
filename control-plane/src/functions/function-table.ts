import { FleetError } from '@lambda-fleet/common/errors';
import { FUNCTION_NAME } from '@lambda-fleet/common/limits';
import type postgres from 'postgres';
import type { Sql } from '../db/connection-target.js';
import { type Database, violatedConstraint } from '../db/database.js';
import { notice } from '../db/notification-listener.js';
import type { FunctionNeeds } from '../scheduling/drain-plan.js';
import type { FunctionRecord } from './function-record.js';

/** What a notice of topic `functions` carries: which cache entries are wrong now. */
export interface FunctionsNotice {
  readonly projectId: string;
  readonly name: string;
  readonly routes: readonly string[];
}

/** Candidate for a new newest version. What is left out belongs to the function, or is set by the database. */
export type FunctionDraft = Omit<
  FunctionRecord,
  'asyncMaxAgeMs' | 'reservedConcurrency' | 'maximumConcurrency' | 'createdAt' | 'updatedAt'
>;

/** `functions` joined with the newest of `versions`, as statements that each change or read one consistent state. */
export class FunctionTable {
  constructor(private readonly database: Database) {}

  /** Looking anything up would only wait in vain. */
  get databaseAway(): boolean {
    return this.database.away;
  }

  async find(projectId: string, name: string): Promise<FunctionRecord | undefined> {
    if (!FUNCTION_NAME.test(name)) return undefined;
    const [row] = await this.database.run(
      'find function',
      (sql) => sql<FunctionRecord[]>`
        select ${columns(sql)} from functions f join versions v on v.id = f.latest_version_id
        where f.project_id = ${projectId} and f.name = ${name}`,
    );
    return row;
  }

  /** A function as one of its versions has it, the newest or not. */
  async findVersion(projectId: string, versionId: string): Promise<FunctionRecord | undefined> {
    const [row] = await this.database.run(
      'find version',
      (sql) => sql<FunctionRecord[]>`
        select ${columns(sql)} from functions f join versions v on v.function_id = f.id
        where f.project_id = ${projectId} and v.id = ${versionId}`,
    );
    return row;
  }

  /** The id of a function's version by its number; undefined when there is none. */
  async versionId(projectId: string, name: string, number: number): Promise<string | undefined> {
    const [row] = await this.database.run(
      'find version by number',
      (sql) => sql<{ id: string }[]>`
        select v.id from functions f join versions v on v.function_id = f.id
        where f.project_id = ${projectId} and f.name = ${name} and v.number = ${number}`,
    );
    return row?.id;
  }

  async findByRoute(projectId: string, route: string): Promise<FunctionRecord | undefined> {
    if (!FUNCTION_NAME.test(route)) return undefined;
    const [row] = await this.database.run(
      'find route',
      (sql) => sql<FunctionRecord[]>`
        select ${columns(sql)} from functions f join versions v on v.id = f.latest_version_id
        where f.project_id = ${projectId} and f.route = ${route}`,
    );
    return row;
  }

  /** By name, those after `afterName`. */
  async list(projectId: string, limit: number, afterName: string): Promise<readonly FunctionRecord[]> {
    return this.database.run(
      'list functions',
      (sql) => sql<FunctionRecord[]>`
        select ${columns(sql)} from functions f join versions v on v.id = f.latest_version_id
        where f.project_id = ${projectId} and f.name > ${afterName} collate "C"
        order by f.name collate "C" limit ${limit}`,
    );
  }

  /** The functions of all projects whose newest version has sandboxes that are kept ready. */
  async listProvisioned(): Promise<readonly FunctionRecord[]> {
    return this.database.run(
      'list provisioned functions',
      (sql) => sql<FunctionRecord[]>`
        select ${columns(sql)} from functions f join versions v on v.id = f.latest_version_id
        where v.provisioned_concurrency > 0`,
    );
  }

  /** What the newest versions of all functions need of a node, each combination once. */
  async listNeeds(): Promise<readonly FunctionNeeds[]> {
    return this.database.run(
      'list needs of functions',
      (sql) => sql<FunctionNeeds[]>`
        select min(f.name) as function_name, v.runtime, v.isolation, v.network, v.labels,
          coalesce(v.image->>'architecture', '') as architecture
        from functions f join versions v on v.id = f.latest_version_id
        group by v.runtime, v.isolation, v.network, v.labels, coalesce(v.image->>'architecture', '')`,
    );
  }

  /** The longest that an invocation of these versions may take on a node; undefined when one of them is no function's. */
  async longestRunMs(versionIds: readonly string[]): Promise<number | undefined> {
    const [row] = await this.database.run(
      'longest run of versions',
      (sql) => sql<{ known: number; ms: number | null }[]>`
        select count(*)::integer as known, max(init_timeout_ms + timeout_ms) as ms from versions
        where id::text in (select jsonb_array_elements_text(${sql.json([...versionIds])}::jsonb))`,
    );
    return row?.known === versionIds.length ? (row.ms ?? undefined) : undefined;
  }

  /** @throws FleetError `conflict` when the name or the route is taken. */
  async insert(draft: FunctionDraft): Promise<FunctionRecord> {
    return this.#write(
      draft,
      (sql) => sql<FunctionRecord[]>`
        with f as (
          insert into functions (id, project_id, name, route, http_auth, keep_payloads, latest_version_id)
          values (${draft.id}, ${draft.projectId}, ${draft.name}, ${draft.route}, ${draft.httpAuth}, ${draft.keepPayloads},
            ${draft.versionId})
          returning *
        ), v as (${insertVersion(sql, draft)})
        select ${columns(sql)}, ${noticeOf(sql, draft, [draft.route])} from f, v`,
    );
  }

  /**
   * Makes `draft` the newest version of `replaced`.
   *
   * @throws FleetError `conflict` when `replaced` is not the newest any more or the route is taken.
   */
  async replace(replaced: FunctionRecord, draft: FunctionDraft): Promise<FunctionRecord> {
    return this.#write(
      draft,
      (sql) => sql<FunctionRecord[]>`
        with f as (
          update functions set route = ${draft.route}, http_auth = ${draft.httpAuth},
            keep_payloads = ${draft.keepPayloads}, latest_version_id = ${draft.versionId}, updated_at = now()
          where id = ${replaced.id} and latest_version_id = ${replaced.versionId}
          returning *
        ), v as (${insertVersion(sql, draft)})
        select ${columns(sql)}, ${noticeOf(sql, draft, [draft.route, replaced.route])} from f, v`,
    );
  }

  /** The ids of its versions; undefined when there is no such function. Executions and logs stay. */
  async remove(
    projectId: string,
    name: string,
  ): Promise<(FunctionsNotice & { versionIds: readonly string[] }) | undefined> {
    if (!FUNCTION_NAME.test(name)) return undefined;
    const [row] = await this.database.run('delete function', (sql) => {
      const changed = sql`jsonb_build_object(
          'projectId', ${projectId}::text, 'name', ${name}::text, 'routes', jsonb_build_array(f.route))::text`;
      return sql<{ route: string; versionIds: string[] }[]>`
        with f as (delete from functions where project_id = ${projectId} and name = ${name} returning id, route)
        select f.route, (select jsonb_agg(v.id) from versions v where v.function_id = f.id) as version_ids,
          ${notice(sql, 'functions', changed)}
        from f`;
    });
    return row && { projectId, name, routes: [row.route], versionIds: row.versionIds };
  }

  async #write(
    draft: FunctionDraft,
    statement: (sql: Sql) => postgres.PendingQuery<FunctionRecord[]>,
  ): Promise<FunctionRecord> {
    try {
      const [row] = await this.database.run('write function', statement);
      if (row !== undefined) return row;
    } catch (err) {
      const constraint = violatedConstraint(err);
      if (constraint === 'functions_project_route') {
        throw new FleetError(
          'conflict',
          `The route "${draft.route}" belongs to another function. Give this one another route.`,
          { field: 'route' },
        );
      }
      if (constraint === 'functions_project_name') throw nameTaken(draft.name);
      if (constraint === undefined) throw err;
    }
    // Another deploy took the version number, the function went away, or the sweep took the artifact.
    throw new FleetError(
      'conflict',
      `"${draft.name}" was changed or deleted by someone else while this was being checked. Look at it and try again.`,
    );
  }
}

export function functionNotFound(name: string): FleetError {
  return new FleetError(
    'function_not_found',
    `No function is named "${name.slice(0, 64)}" in this project. \`lambda ls\` lists them.`,
  );
}

export function nameTaken(name: string): FleetError {
  return new FleetError(
    'conflict',
    `A function named "${name}" exists already. Replace it with PUT /api/functions/${name}, or choose another name.`,
    { field: 'name' },
  );
}

function columns(sql: Sql) {
  return sql`
    f.id, f.project_id, f.name, f.route, f.http_auth, f.keep_payloads, f.async_max_age_ms, f.reserved_concurrency,
    f.maximum_concurrency, f.created_at, f.updated_at,
    v.id as version_id, v.number as version, v.runtime, v.handler, v.memory_mb, v.cpus, v.timeout_ms,
    v.init_timeout_ms, v.keep_alive_ms, v.environment, v.artifact_sha256, v.artifact_bytes,
    v.isolation, v.network, v.egress_hosts, v.concurrency, v.keep_running, v.provisioned_concurrency, v.image,
    v.image_settings, v.labels`;
}

function insertVersion(sql: Sql, draft: FunctionDraft) {
  return sql`
    insert into versions (
      id, project_id, function_id, number, runtime, handler, memory_mb, cpus, timeout_ms, init_timeout_ms,
      keep_alive_ms, environment, artifact_sha256, artifact_bytes, isolation, network, egress_hosts, concurrency,
      keep_running, provisioned_concurrency, image, image_settings, labels
    )
    select
      ${draft.versionId}::uuid, ${draft.projectId}, f.id, ${draft.version}::integer, ${draft.runtime}, ${draft.handler},
      ${draft.memoryMb}::integer, ${draft.cpus}::double precision, ${draft.timeoutMs}::integer,
      ${draft.initTimeoutMs}::integer, ${draft.keepAliveMs}::integer, ${sql.json({ ...draft.environment })}::jsonb,
      ${draft.artifactSha256}, ${draft.artifactBytes}::bigint, ${draft.isolation}, ${draft.network},
      ${sql.json([...draft.egressHosts])}::jsonb, ${draft.concurrency}::integer, ${draft.keepRunning}::boolean,
      ${draft.provisionedConcurrency}::integer, ${draft.image === null ? null : jsonOf(sql, draft.image)}::jsonb,
      ${jsonOf(sql, draft.imageSettings)}::jsonb, ${sql.json({ ...draft.labels })}::jsonb
    from f returning *`;
}

/** The driver's type for JSON knows no read-only arrays. */
function jsonOf(sql: Sql, value: object) {
  return sql.json(value as postgres.JSONValue);
}

function noticeOf(sql: Sql, { projectId, name }: FunctionDraft, routes: readonly string[]) {
  const payload: FunctionsNotice = { projectId, name, routes };
  return notice(sql, 'functions', JSON.stringify(payload));
}
