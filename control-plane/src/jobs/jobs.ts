import { valuesHash } from '../idempotency/request-hash.js';
import type { JobDetail, JobSummary, NewJob } from './job.js';
import type { JobRunner } from './job-runner.js';
import { parseSubmission } from './job-submission.js';
import type { JobFilter, JobTable } from './job-table.js';
import type { JobWaiters } from './job-waiters.js';

export interface JobsOptions {
  readonly table: JobTable;
  readonly runner: Pick<JobRunner, 'wake' | 'cancel'>;
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

/** What clients may do with the jobs of their project. */
export class Jobs {
  constructor(private readonly options: JobsOptions) {}

  /**
   * Stores a job; it runs afterwards, whatever becomes of this process.
   *
   * @param body of a request, not checked yet
   * @throws FleetError `invalid_request`, `unsupported_runtime`, `payload_too_large`, `throttled`, `idempotency_mismatch`
   */
  async submit(projectId: string, body: unknown, { id, key }: SubmitOptions = {}): Promise<SubmittedJob> {
    const { table, runner } = this.options;
    const submitted = parseSubmission(projectId, body, id);
    const claim = { projectId, scope: 'jobs', invocationId: submitted.id, runsMs: 0 };
    const job = await (key === undefined
      ? table.insert(submitted)
      : table.insertOnce(submitted, { ...claim, key, requestHash: hashOf(submitted) }));
    runner.wake();
    return { job, replayed: job.id !== submitted.id };
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
    if (waitMs === 0) return await table.get(projectId, id);
    // Before the look: a job that finishes in between is not missed.
    const { until, end } = waiters.wait(id, waitMs, gone);
    try {
      const now = await table.get(projectId, id);
      if (now.finishedAt !== null) return now;
      await until;
      return await table.get(projectId, id);
    } finally {
      end();
    }
  }

  /** @throws FleetError `job_not_found`, `conflict` */
  async cancel(projectId: string, id: string): Promise<JobSummary> {
    const { table, runner, waiters } = this.options;
    const job = await table.cancel(projectId, id);
    if (job.finishedAt !== null) waiters.finished(job.id);
    runner.cancel(job.id);
    return job;
  }
}

function hashOf({ runtime, memoryMb, timeoutMs, initTimeoutMs, retries, code, args }: NewJob): string {
  return valuesHash([runtime, memoryMb, timeoutMs, initTimeoutMs, retries, code, args]);
}
