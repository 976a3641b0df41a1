import { FleetError } from '@lambda-fleet/common/errors';
import type { Sql } from '../db/connection-target.js';
import type { Database } from '../db/database.js';
import { ARGS_KEPT_BYTES_MAX, type JobDetail, type JobStatus, type JobSummary, type NewJob } from './job.js';

export interface JobFilter {
  readonly status?: JobStatus;
  /** Jobs older than this one. */
  readonly beforeId?: string;
  readonly limit: number;
}

export interface QueueLimits {
  /** Queued jobs of one project. */
  readonly queuedMax: number;
  /** Arguments of these together. */
  readonly argsBytesMax: number;
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** When a queue is full, it takes about this long for a few jobs of it to end. */
const RETRY_AFTER_SECONDS = 5;

/** What clients do with jobs: store, read, cancel. Running them is the runner's, with {@link JobProgress}. */
export class JobTable {
  constructor(
    private readonly database: Database,
    private readonly limits: QueueLimits,
  ) {}

  /** @throws FleetError `throttled` when the project has as many queued as it may */
  async insert(job: NewJob): Promise<JobSummary> {
    const { queuedMax, argsBytesMax } = this.limits;
    const [stored] = await this.database.run(
      'store job',
      (sql) => sql<JobSummary[]>`
        insert into jobs (
          id, project_id, runtime, memory_mb, timeout_ms, init_timeout_ms, retries, code, args, args_bytes
        )
        select
          ${job.id}::uuid, ${job.projectId}, ${job.runtime}, ${job.memoryMb}::integer, ${job.timeoutMs}::integer,
          ${job.initTimeoutMs}::integer, ${job.retries}::smallint, ${job.code}, ${job.args}, ${job.argsBytes}::integer
        from (
          select count(*) as jobs, coalesce(sum(args_bytes), 0) as bytes from jobs
          where project_id = ${job.projectId} and status = 'queued'
        ) queued
        where queued.jobs < ${queuedMax} and queued.bytes + ${job.argsBytes}::integer <= ${argsBytesMax}
        returning ${columns(sql)}`,
    );
    if (stored !== undefined) return stored;
    throw new FleetError(
      'throttled',
      `The project has as many queued jobs as it may: ${queuedMax}, with ${argsBytesMax} bytes of arguments together. Send this one again when some have run.`,
      { retryAfterSeconds: RETRY_AFTER_SECONDS },
    );
  }

  /** Newest first. */
  list(projectId: string, { status, beforeId, limit }: JobFilter): Promise<readonly JobSummary[]> {
    if (beforeId !== undefined && !UUID.test(beforeId)) {
      throw new FleetError('invalid_request', 'cursor is not one that this list gave out.', { field: 'cursor' });
    }
    return this.database.run(
      'list jobs',
      (sql) => sql<JobSummary[]>`
        select ${columns(sql)} from jobs
        where project_id = ${projectId}
          ${status === undefined ? sql`` : sql`and status = ${status}`}
          ${beforeId === undefined ? sql`` : sql`and id < ${beforeId}`}
        order by id desc limit ${limit}`,
    );
  }

  /** @throws FleetError `job_not_found` */
  async get(projectId: string, id: string): Promise<JobDetail> {
    const [row] = UUID.test(id)
      ? await this.database.run(
          'get job',
          (sql) => sql<JobDetail[]>`
            select ${columns(sql)}, code, args, result, receipt from jobs where project_id = ${projectId} and id = ${id}`,
        )
      : [];
    return row ?? jobNotFound();
  }

  /**
   * Cancels a queued job. Of a running one it only says so: whoever runs it has to be told.
   *
   * @throws FleetError `job_not_found`; `conflict` when it has finished otherwise
   */
  async cancel(projectId: string, id: string): Promise<JobSummary> {
    const [row] = UUID.test(id)
      ? await this.database.run(
          'cancel job',
          (sql) => sql<JobSummary[]>`
            update jobs set
              cancel_requested_at = coalesce(cancel_requested_at, now()),
              status = case status when 'queued' then 'cancelled' else status end,
              finished_at = case status when 'queued' then now() end,
              args = case when status = 'queued' and args_bytes > ${ARGS_KEPT_BYTES_MAX} then null else args end,
              error = case status when 'queued' then null else error end, reason = null
            where project_id = ${projectId} and id = ${id} and status in ('queued', 'running')
            returning ${columns(sql)}`,
        )
      : [];
    if (row !== undefined) return row;
    const { code: _c, args: _a, result: _r, receipt: _p, ...finished } = await this.get(projectId, id);
    if (finished.status === 'cancelled') return finished;
    throw new FleetError('conflict', `The job has ${words(finished.status)} already; there is nothing to cancel.`, {
      status: finished.status,
    });
  }
}

function jobNotFound(): never {
  throw new FleetError(
    'job_not_found',
    'There is no job with this id in this project. `lambda jobs ls` lists them; finished ones are removed after some days.',
  );
}

function words(status: JobStatus): string {
  return status === 'timed_out' ? 'timed out' : status;
}

function columns(sql: Sql) {
  return sql`
    id, status, outcome, reason, runtime, memory_mb, timeout_ms, retries, attempts, execution_ids, node_id, error,
    args_bytes, result_bytes, cancel_requested_at, created_at, started_at, finished_at`;
}
