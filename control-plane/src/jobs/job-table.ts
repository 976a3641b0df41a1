import { FleetError } from '@lambda-fleet/common/errors';
import type { Sql } from '../db/connection-target.js';
import type { Database } from '../db/database.js';
import { checkSameRequest, type KeyClaim, neverSettled } from '../idempotency/idempotency-key.js';
import { insertJob, type QueueLimits, roomFor } from './insert-job.js';
import { ARGS_KEPT_BYTES_MAX, type JobDetail, type JobStatus, type JobSummary, type NewJob } from './job.js';
import { storeKeyedJob } from './store-keyed-job.js';

export interface JobFilter {
  readonly status?: JobStatus;
  /** Jobs older than this one. */
  readonly beforeId?: string;
  readonly limit: number;
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** When a queue is full, it takes about this long for a few jobs of it to end. */
const RETRY_AFTER_SECONDS = 5;

const ROUNDS = 5;

/** What clients do with jobs: store, read, cancel. Running them is the runner's, with {@link JobProgress}. */
export class JobTable {
  constructor(
    private readonly database: Database,
    private readonly limits: QueueLimits,
  ) {}

  /** @throws FleetError `throttled` when the project has as many queued as it may */
  async insert(job: NewJob): Promise<JobSummary> {
    const [stored] = await this.database.run(
      'store job',
      (sql) => sql<JobSummary[]>`
        with room as (${roomFor(sql, job, this.limits)}) ${insertJob(sql, job, 'room')} returning ${columns(sql)}`,
    );
    return stored ?? this.#full();
  }

  /**
   * Stores a job and its key in one statement, unless the key stands for a job already: then it is that job, as it was when
   * it was stored.
   *
   * @throws FleetError `throttled`, `idempotency_mismatch`
   */
  async insertOnce(job: NewJob, claim: KeyClaim): Promise<JobSummary> {
    for (let round = 0; round < ROUNDS; round += 1) {
      const stored = await storeKeyedJob(this.database, this.limits, job, claim);
      if (stored.kind === 'full') return this.#full();
      if (stored.kind === 'again') continue;
      checkSameRequest(claim, stored);
      // The same submission, so all but these two are its own.
      return queuedJob({ ...job, id: stored.invocationId }, stored.createdAt);
    }
    throw neverSettled();
  }

  #full(): never {
    const { queuedMax, argsBytesMax } = this.limits;
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

/** A job as it is when it is stored. */
function queuedJob(job: NewJob, createdAt: Date): JobSummary {
  const { id, runtime, memoryMb, timeoutMs, retries, argsBytes } = job;
  return {
    ...{ id, status: 'queued', outcome: null, reason: null, runtime, memoryMb, timeoutMs, retries, attempts: 0 },
    ...{ executionIds: [], nodeId: null, error: null, argsBytes, resultBytes: null, cancelRequestedAt: null },
    ...{ createdAt, startedAt: null, finishedAt: null },
  };
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
