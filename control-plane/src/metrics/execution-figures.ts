import type postgres from 'postgres';
import type { Sql } from '../db/connection-target.js';
import { BUCKET_GROWTH, SHORTEST_MS } from './histogram.js';

export type Fragment = postgres.PendingQuery<postgres.Row[]>;

/** Columns of `function_minutes` and `function_hours` that are added up. */
export const SUMMED = [
  'invocations',
  'function_errors',
  'timeouts',
  'outcome_unknown',
  'not_started',
  'throttles',
  'cold',
  'blank',
  'warm',
  'duration_ms',
  'cpu_ms',
] as const;

/** What an agent claims must fit into its column, or nothing would be added any more. */
const MEMORY_BYTES_MAX = 1e15;

/**
 * Rows of `executions` as what is added up of them; to be followed by `from executions`. The time of a figure is when the
 * execution was recorded, because that is what becomes complete: when it ended is the word of another machine's clock.
 *
 * Processor time of a sandbox that ran other invocations meanwhile is not this execution's, so it is left out.
 */
export function measuredColumns(sql: Sql): Fragment {
  const bucket = (valueMs: Fragment): Fragment =>
    sql`ceil(ln(greatest(${valueMs}, ${SHORTEST_MS}::float8)) / ln(${BUCKET_GROWTH}::float8))::integer`;
  const durationMs = sql`(receipt ->> 'runMs')::float8`;
  const cpuMs = sql`case when receipt -> 'shared' is null then (receipt ->> 'cpuMs')::float8 end`;
  // Of a row without it the least of the two would be the maximum.
  const memory = sql`case when receipt -> 'memoryPeakBytes' is not null
      then least((receipt ->> 'memoryPeakBytes')::float8, ${MEMORY_BYTES_MAX}::float8)::bigint end`;
  return sql`
    project_id, function_id, function_name, recorded_at, outcome, receipt ->> 'start' as start,
    ${durationMs} as duration_ms, case when ${durationMs} is not null then ${bucket(durationMs)} end as duration_bucket,
    ${cpuMs} as cpu_ms, case when ${cpuMs} is not null then ${bucket(cpuMs)} end as cpu_bucket,
    ${memory} as memory_bytes`;
}

/** Jobs are no invocations of functions, and neither are messages to webhooks. */
export const isOfFunction = (sql: Sql): Fragment => sql`trigger not in ('job', 'webhook')`;

/** {@link SUMMED} and the peak of memory, of a group of rows with {@link measuredColumns}. */
export function summedExecutions(sql: Sql): Fragment {
  return sql`
    count(*) as invocations,
    count(*) filter (where outcome = 'function_error') as function_errors,
    count(*) filter (where outcome = 'timeout') as timeouts,
    count(*) filter (where outcome = 'outcome_unknown') as outcome_unknown,
    count(*) filter (where outcome = 'not_started') as not_started,
    0::bigint as throttles,
    count(*) filter (where start = 'cold') as cold,
    count(*) filter (where start = 'blank') as blank,
    count(*) filter (where start = 'warm') as warm,
    coalesce(sum(duration_ms), 0) as duration_ms,
    coalesce(sum(cpu_ms), 0) as cpu_ms,
    coalesce(max(memory_bytes), 0) as memory_peak_bytes`;
}

/** The start of the stretch of time, of so many seconds since the epoch, that a time is in. */
export const binned = (sql: Sql, seconds: number, at: Fragment): Fragment =>
  sql`date_bin(${seconds} * interval '1 second', ${at}, 'epoch'::timestamptz)`;
