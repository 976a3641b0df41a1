import type postgres from 'postgres';
import type { Sql } from '../db/connection-target.js';
import { ARGS_KEPT_BYTES_MAX } from '../jobs/job.js';
import type { NewAsyncInvocation } from './async-invocation.js';

/**
 * The part of a statement that stores what jobs are, of those invocations that are `accepted`: a common table expression
 * with a comma before it, or nothing when no job is among them.
 */
export function describeJobs(
  sql: Sql,
  invocations: readonly NewAsyncInvocation[],
): postgres.PendingQuery<postgres.Row[]> {
  const jobs = invocations.flatMap(({ job }) => job ?? []);
  if (jobs.length === 0) return sql``;
  const rows = jobs.map((job) => ({
    id: job.id,
    project_id: job.projectId,
    runtime: job.runtime,
    memory_mb: job.memoryMb,
    timeout_ms: job.timeoutMs,
    init_timeout_ms: job.initTimeoutMs,
    retries: job.retries,
    code: job.code,
    args: job.argsBytes > ARGS_KEPT_BYTES_MAX ? null : job.args,
    args_bytes: job.argsBytes,
    created_at: job.createdAt.toISOString(),
  }));
  return sql`
    , described as (
      insert into jobs (
        id, project_id, runtime, memory_mb, timeout_ms, init_timeout_ms, retries, code, args, args_bytes, created_at
      )
      select r.* from jsonb_to_recordset(${sql.json(rows)}) as r (
        id uuid, project_id text, runtime text, memory_mb integer, timeout_ms integer, init_timeout_ms integer,
        retries smallint, code text, args text, args_bytes integer, created_at timestamptz
      ) join accepted using (id)
    )`;
}
