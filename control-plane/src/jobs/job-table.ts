import { FleetError } from '@lambda-fleet/common/errors';
import type postgres from 'postgres';
import { validate as isUuid } from 'uuid';
import { mayHaveRun } from '../async/open-invocations.js';
import type { Sql } from '../db/connection-target.js';
import type { Database } from '../db/database.js';
import type { JobCode, JobDetail, JobStatus, JobSummary } from './job.js';

export interface JobFilter {
  readonly status?: JobStatus;
  /** Jobs older than this one. */
  readonly beforeId?: string;
  readonly limit: number;
}

type Fragment = postgres.PendingQuery<postgres.Row[]>;

/** What is known of jobs: of those that have finished from their rows, of the others from the queue. */
export class JobTable {
  constructor(private readonly database: Database) {}

  /** Newest first. */
  list(projectId: string, { status, beforeId, limit }: JobFilter): Promise<readonly JobSummary[]> {
    if (beforeId !== undefined && !isUuid(beforeId)) {
      throw new FleetError('invalid_request', 'cursor is not one that this list gave out.', { field: 'cursor' });
    }
    return this.database.run(
      'list jobs',
      (sql) => sql<JobSummary[]>`
        select ${columns(sql)} from jobs j left join async_invocations a on a.id = j.id
        where j.project_id = ${projectId}
          ${status === undefined ? sql`` : withStatus(sql, status)}
          ${beforeId === undefined ? sql`` : sql`and j.id < ${beforeId}`}
        order by j.id desc limit ${limit}`,
    );
  }

  /** @throws FleetError `job_not_found` */
  async get(projectId: string, id: string): Promise<JobDetail> {
    if (!isUuid(id)) return jobNotFound();
    const [row] = await this.database.run(
      'get job',
      (sql) => sql<JobDetail[]>`
        select ${columns(sql)}, j.code, j.args, j.result, coalesce(j.receipt, a.receipt) as receipt,
          coalesce(a.epoch, (select e.epoch from executions e where e.id = (j.execution_ids ->> -1)::uuid)) as epoch
        from jobs j left join async_invocations a on a.id = j.id
        where j.project_id = ${projectId} and j.id = ${id}`,
    );
    return row ?? jobNotFound();
  }

  /** @throws FleetError `job_not_found` */
  async summary(projectId: string, id: string): Promise<JobSummary> {
    if (!isUuid(id)) return jobNotFound();
    const [row] = await this.database.run(
      'look at job',
      (sql) => sql<JobSummary[]>`
        select ${columns(sql)} from jobs j left join async_invocations a on a.id = j.id
        where j.project_id = ${projectId} and j.id = ${id}`,
    );
    return row ?? jobNotFound();
  }

  /** Whether there is such a job that has not finished. */
  async isOpen(projectId: string, id: string): Promise<boolean> {
    if (!isUuid(id)) return false;
    const rows = await this.database.run(
      'look whether job is open',
      (sql) => sql`select id from jobs where project_id = ${projectId} and id = ${id} and finished_at is null`,
    );
    return rows.length > 0;
  }

  /** What running it needs. Undefined when there is no such job. */
  async code(id: string): Promise<JobCode | undefined> {
    const [row] = await this.database.run(
      'load job',
      (sql) => sql<JobCode[]>`
        select id, project_id, runtime, memory_mb, timeout_ms, code from jobs where id = ${id}`,
    );
    return row;
  }
}

function jobNotFound(): never {
  throw new FleetError(
    'job_not_found',
    'There is no job with this id in this project. `lambda jobs ls` lists them; finished ones are removed after some days.',
  );
}

/** What is open is read by the index of what is unfinished, the rest by that of what has finished with this status. */
function withStatus(sql: Sql, status: JobStatus): Fragment {
  if (status === 'queued') return sql`and j.finished_at is null and not ${runs(sql)}`;
  if (status === 'running') return sql`and j.finished_at is null and ${runs(sql)}`;
  return sql`and j.finished_at is not null and j.status = ${status}`;
}

/** It may be on a node: one that was taken and looks for a node is queued still. */
function runs(sql: Sql): Fragment {
  return sql`coalesce(a.status = 'running' and a.started_at is not null, false)`;
}

function columns(sql: Sql): Fragment {
  const open = sql`j.finished_at is null`;
  return sql`
    j.id, j.runtime, j.memory_mb, j.timeout_ms, j.retries, j.args_bytes, j.result_bytes, j.created_at, j.finished_at,
    case when not ${open} then j.status when ${runs(sql)} then 'running' else 'queued' end as status,
    case when ${open} and not ${runs(sql)} then a.reason end as reason,
    case when ${open} then coalesce(a.attempts, 0) + ${runs(sql)}::integer else j.attempts end as attempts,
    case
      when ${open} and (${runs(sql)} or ${mayHaveRun(sql, 'a')}) then j.execution_ids || to_jsonb(j.id) else j.execution_ids
    end as execution_ids,
    case when not ${open} then j.started_at when ${runs(sql)} or ${mayHaveRun(sql, 'a')} then a.started_at end as started_at,
    coalesce(a.cancel_requested_at, j.cancel_requested_at) as cancel_requested_at,
    case when ${open} then a.outcome else j.outcome end as outcome, case when ${open} then a.error else j.error end as error,
    case when ${open} then a.node_id else j.node_id end as node_id`;
}
