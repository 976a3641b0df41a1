import type { Logger } from '@lambda-fleet/common/logger';
import type { JobStatus } from './job.js';
import type { JobProgress } from './job-progress.js';
import type { JobWaiters } from './job-waiters.js';
import { type AttemptEnd, type JobSoFar, judgeAttempt } from './judge-attempt.js';

export interface JobSettlerOptions {
  readonly progress: JobProgress;
  readonly waiters: JobWaiters;
  readonly onFinished: (status: JobStatus) => void;
  readonly log: Logger;
}

export type Settled =
  | { readonly kind: 'finished' }
  | { readonly kind: 'retry' | 'defer'; readonly delayMs: number }
  /** Left as running, because it may be. */
  | { readonly kind: 'wait' };

/** Writes what the end of an attempt means for its job. */
export class JobSettler {
  constructor(private readonly options: JobSettlerOptions) {}

  /** May be repeated after a failure. @throws FleetError `unavailable` */
  async settle(jobId: string, invocationId: string, job: JobSoFar, end: AttemptEnd): Promise<Settled> {
    const { progress, waiters, onFinished, log } = this.options;
    const verdict = judgeAttempt(job, end);
    switch (verdict.kind) {
      case 'wait':
        return verdict;
      case 'retry':
        if (await progress.putBack(jobId, invocationId, verdict.record, verdict)) {
          log.info(
            { job: jobId, attempt: job.attempts, outcome: end.outcome, delayMs: verdict.delayMs },
            'job_retried',
          );
          return verdict;
        }
        break;
      case 'defer':
        if (await progress.defer(jobId, invocationId, verdict)) {
          log.debug({ job: jobId, outcome: end.outcome, reason: verdict.reason }, 'job_deferred');
          return verdict;
        }
        break;
    }
    // What could not be queued again was cancelled; where that is written already, this changes nothing.
    const { outcome, error, receipt } = end;
    const cancelled = { status: 'cancelled', outcome, error, receipt, result: null, resultBytes: null } as const;
    const status = await progress.finish(jobId, invocationId, verdict.kind === 'finish' ? verdict.ending : cancelled);
    if (status !== undefined) {
      log.info({ job: jobId, invocation: invocationId, status, outcome, attempts: job.attempts }, 'job_finished');
      onFinished(status);
      waiters.finished(jobId);
    }
    return { kind: 'finished' };
  }
}
