import { FleetError } from '@lambda-fleet/common/errors';
import type { AsyncInvocations } from '../async/async-invocations.js';
import type { Intake } from '../async/intake.js';
import { valuesHash } from '../idempotency/request-hash.js';
import { type JobDetail, type JobStatus, type JobSummary, type NewJob, queuedJob } from './job.js';
import { parseSubmission, timeOf } from './job-submission.js';
import type { JobFilter, JobTable } from './job-table.js';
import { JOB_FUNCTION_NAME, jobFunctionId } from './job-version.js';
import type { JobWaiters } from './job-waiters.js';

export interface JobsOptions {
  readonly table: JobTable;
  readonly intake: Intake;
  readonly queue: Pick<AsyncInvocations, 'cancel'>;
  readonly waiters: JobWaiters;
}

export interface SubmitOptions {
  /** UUID of version 7. */
  readonly id?: string;
  /** The same submission with the same key is stored once. */
  readonly key?: string | undefined;
}

/** A job that was stored, by this request or by an earlier one with the same key. */
export interface SubmittedJob {
  readonly job: JobSummary;
  readonly replayed: boolean;
}

/** A job that nothing could start for so long fails. */
const MAX_AGE_MS = 6 * 3_600_000;

/** For jobs that finish in another process. */
const POLL_MS = 1_000;

/** How often a job may be taken or put back while it is being cancelled. */
const CANCEL_ROUNDS = 5;

/** What clients may do with the jobs of their project. */
export class Jobs {
  constructor(private readonly options: JobsOptions) {}

  /**
   * Stores a job and queues it, in one statement; it runs afterwards, whatever becomes of this process.
   *
   * @param body of a request, not checked yet
   * @throws FleetError `invalid_request`, `unsupported_runtime`, `payload_too_large`, `throttled`, `idempotency_mismatch`
   */
  async submit(projectId: string, body: unknown, { id, key }: SubmitOptions = {}): Promise<SubmittedJob> {
    const job = parseSubmission(projectId, body, id);
    const laneId = jobFunctionId(projectId, job);
    const claim = { projectId, scope: 'jobs', invocationId: job.id, runsMs: 0 };
    const storedId = await this.options.intake.accept(
      {
        ...{ id: job.id, projectId, laneId, kind: 'job', functionId: laneId, functionName: JOB_FUNCTION_NAME },
        ...{ versionId: null, trigger: 'job', payload: Buffer.from(job.args), context: {}, maxAgeMs: MAX_AGE_MS, job },
      },
      key === undefined ? undefined : { ...claim, key, requestHash: hashOf(job) },
    );
    // The same submission, so all but these two is its own.
    const stored = queuedJob({ ...job, id: storedId, createdAt: timeOf(storedId) });
    return { job: stored, replayed: storedId !== job.id };
  }

  list(projectId: string, filter: JobFilter): Promise<readonly JobSummary[]> {
    return this.options.table.list(projectId, filter);
  }

  /**
   * The job as it is once it has finished, or after `waitMs` or when `gone` aborts.
   *
   * @throws FleetError `job_not_found`
   */
  async get(projectId: string, id: string, waitMs: number, gone: AbortSignal): Promise<JobDetail> {
    const { table, waiters } = this.options;
    const giveUpAt = performance.now() + waitMs;
    for (let open = true; open && !gone.aborted && !waiters.closed; ) {
      const leftMs = giveUpAt - performance.now();
      if (leftMs <= 0) break;
      // Before the look: a job that finishes in between is not missed.
      const { until, end } = waiters.wait(id, Math.min(leftMs, POLL_MS), gone);
      try {
        open = await table.isOpen(projectId, id);
        if (open) await until;
      } finally {
        end();
      }
    }
    return await table.get(projectId, id);
  }

  /**
   * Cancels a queued job. One that runs, or looks for a node, is stopped; how it then ends is how it ends.
   *
   * @throws FleetError `job_not_found`; `conflict` when it has finished otherwise
   */
  async cancel(projectId: string, id: string): Promise<JobSummary> {
    const { table, queue, waiters } = this.options;
    let job = await table.summary(projectId, id);
    for (let round = 0; round < CANCEL_ROUNDS && job.finishedAt === null; round += 1) {
      await queue.cancel(projectId, id).catch((err: unknown) => {
        if (!(err instanceof FleetError) || err.code !== 'conflict') throw err;
      });
      job = await table.summary(projectId, id);
      if (job.cancelRequestedAt !== null) break;
    }
    if (job.finishedAt !== null) waiters.finished(job.id);
    if (job.finishedAt === null || job.status === 'cancelled') return job;
    throw new FleetError('conflict', `The job has ${words(job.status)} already; there is nothing to cancel.`, {
      status: job.status,
    });
  }
}

function words(status: JobStatus): string {
  return status === 'timed_out' ? 'timed out' : status;
}

function hashOf({ runtime, memoryMb, timeoutMs, initTimeoutMs, retries, code, args }: NewJob): string {
  return valuesHash([runtime, memoryMb, timeoutMs, initTimeoutMs, retries, code, args]);
}
