import type postgres from 'postgres';
import type { Sql } from '../db/connection-target.js';
import type { NewJob } from './job.js';

export interface QueueLimits {
  /** Queued jobs of one project. */
  readonly queuedMax: number;
  /** Arguments of these together. */
  readonly argsBytesMax: number;
}

type Fragment = postgres.PendingQuery<postgres.Row[]>;

/** One row when the project may have this job queued too, otherwise none. */
export function roomFor(sql: Sql, job: NewJob, { queuedMax, argsBytesMax }: QueueLimits): Fragment {
  return sql`
    select 1 from (
      select count(*) as jobs, coalesce(sum(args_bytes), 0) as bytes from jobs
      where project_id = ${job.projectId} and status = 'queued'
    ) queued
    where queued.jobs < ${queuedMax} and queued.bytes + ${job.argsBytes}::integer <= ${argsBytesMax}`;
}

/** Stores the job if the expression `allowed` has a row. */
export function insertJob(sql: Sql, job: NewJob, allowed: string): Fragment {
  return sql`
    insert into jobs (
      id, project_id, runtime, memory_mb, timeout_ms, init_timeout_ms, retries, code, args, args_bytes
    )
    select
      ${job.id}::uuid, ${job.projectId}, ${job.runtime}, ${job.memoryMb}::integer, ${job.timeoutMs}::integer,
      ${job.initTimeoutMs}::integer, ${job.retries}::smallint, ${job.code}, ${job.args}, ${job.argsBytes}::integer
    from ${sql(allowed)}`;
}
