import type postgres from 'postgres';
import type { Sql } from '../db/connection-target.js';

type Fragment = postgres.PendingQuery<postgres.Row[]>;

export interface RecordOptions {
  readonly withBodies: boolean;
  readonly isLast?: boolean;
}

/**
 * The part of a statement that records executions: the common table expressions `kept`, `recorded` and `recorded_bodies`.
 * `recorded` has the `id` of each execution that was inserted or replaced. `work` names an earlier expression with the
 * columns of `executionRows`; without `withBodies` it need not have `input_bytes` and `output_bytes`, and costs less.
 *
 * The first terminal record of an invocation stays. The one exception is `outcome_unknown`, which the control plane writes
 * when a link breaks: when the agent comes back and knows better, its word replaces it. With `isLast`, whoever writes owns the
 * invocation, and knows that its word is the last one.
 *
 * Whether a function's payloads are kept is asked here too, the one place that every execution passes: the version that it
 * ran may be out of date, and one that comes from an agent does not say it at all.
 */
export function recordExecutions(sql: Sql, work: string, { withBodies, isLast = false }: RecordOptions): Fragment {
  const replaced = isLast
    ? sql`, epoch = excluded.epoch, started_at = excluded.started_at, attempts = excluded.attempts`
    : sql`
      where executions.outcome = 'outcome_unknown' and excluded.outcome <> 'outcome_unknown'
        and executions.epoch = excluded.epoch`;
  // Few functions if any: looked up once for a whole batch, where a join would look for every row.
  const keeps = sql`w.function_id not in (select id from functions where not keep_payloads)
    and (w.keep_payloads or exists (select from functions f where f.id = w.function_id))`;
  const recorded = sql`
    kept as (select w.*, ${keeps} as keeps from ${sql(work)} w),
    recorded as (
      insert into executions (
        id, project_id, function_id, function_name, version_id, version_number, trigger, epoch, outcome, status_code,
        error, receipt, node_id, input, output, started_at, finished_at, attempts, accepted_at
      )
      select
        id, project_id, function_id, function_name, version_id, version_number, trigger, epoch, outcome, status_code,
        error, receipt, node_id, case when keeps then input end, case when keeps then output end, started_at, finished_at,
        attempts, accepted_at
      from kept
      on conflict (id) do update set
        outcome = excluded.outcome, status_code = excluded.status_code, error = excluded.error, receipt = excluded.receipt,
        node_id = excluded.node_id, output = excluded.output, finished_at = excluded.finished_at ${replaced}
      returning id
    )`;
  if (!withBodies) return recorded;
  return sql`
    ${recorded},
    recorded_bodies as (
      insert into execution_bodies as b (execution_id, project_id, input, output)
      select id, project_id, input_bytes, output_bytes from kept join recorded using (id)
      where keeps and (input_bytes is not null or output_bytes is not null)
      on conflict (execution_id) do update set input = coalesce(b.input, excluded.input), output = excluded.output
    )`;
}
