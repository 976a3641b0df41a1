import type { RuntimeName } from '@lambda-fleet/common/runtime-names';
import type { ExecutionError, ExecutionReceipt, jobs } from '../db/schema.js';
import type { OutcomeName } from '../invocations/invocation.js';

export type JobStatus = (typeof jobs.$inferSelect)['status'];

export const JOB_STATUSES = [
  'queued',
  'running',
  'succeeded',
  'failed',
  'timed_out',
  'cancelled',
] as const satisfies readonly JobStatus[];

/** Arguments up to this size stay with a finished job. */
export const ARGS_KEPT_BYTES_MAX = 64 * 1024;

/** A job as lists show it. Bytes and milliseconds. */
export interface JobSummary {
  readonly id: string;
  readonly status: JobStatus;
  /** Of the last attempt that ended. */
  readonly outcome: OutcomeName | null;
  readonly reason: string | null;
  readonly runtime: RuntimeName;
  readonly memoryMb: number;
  readonly timeoutMs: number;
  readonly retries: number;
  readonly attempts: number;
  /** Its own id, which all its attempts share, once one has begun. Jobs of earlier releases had one for each attempt. */
  readonly executionIds: readonly string[];
  readonly nodeId: string | null;
  readonly error: ExecutionError | null;
  readonly argsBytes: number;
  readonly resultBytes: number | null;
  readonly cancelRequestedAt: Date | null;
  readonly createdAt: Date;
  /** When the last attempt began. */
  readonly startedAt: Date | null;
  readonly finishedAt: Date | null;
}

export interface JobDetail extends JobSummary {
  readonly code: string;
  /** JSON text; null when it is long. */
  readonly args: string | null;
  /** JSON text. Null until it has succeeded, and after that when the result was too long to keep or came too late. */
  readonly result: string | null;
  readonly receipt: ExecutionReceipt | null;
  /** Of its last attempt; null when that is not known any more. */
  readonly epoch: number | null;
}

/** What running a job needs. */
export interface JobCode {
  readonly id: string;
  readonly projectId: string;
  readonly runtime: RuntimeName;
  readonly memoryMb: number;
  readonly timeoutMs: number;
  readonly code: string;
}

/** A job before it is stored. */
export interface NewJob {
  readonly id: string;
  readonly projectId: string;
  readonly runtime: RuntimeName;
  readonly memoryMb: number;
  readonly timeoutMs: number;
  readonly initTimeoutMs: number;
  readonly retries: number;
  readonly code: string;
  /** JSON text. */
  readonly args: string;
  readonly argsBytes: number;
  /** That of its id. */
  readonly createdAt: Date;
}

/** A job as it is when it is stored. */
export function queuedJob(job: NewJob): JobSummary {
  const { id, runtime, memoryMb, timeoutMs, retries, argsBytes, createdAt } = job;
  return {
    ...{ id, status: 'queued', outcome: null, reason: null, runtime, memoryMb, timeoutMs, retries, attempts: 0 },
    ...{ executionIds: [], nodeId: null, error: null, argsBytes, resultBytes: null, cancelRequestedAt: null },
    ...{ createdAt, startedAt: null, finishedAt: null },
  };
}
