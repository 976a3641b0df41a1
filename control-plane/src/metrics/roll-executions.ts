import type { Database } from '../db/database.js';
import { addFigures } from './add-figures.js';
import { binned, isOfFunction, measuredColumns, summedExecutions } from './execution-figures.js';

/** Times as PostgreSQL prints them: a `Date` would lose the microseconds. */
export interface RollStep {
  readonly from: string;
  readonly to: string;
  /** Further executions are there to be rolled. */
  readonly more: boolean;
}

/** A statement that records executions ends, or has begun to write, within this time; see STATEMENT_DEADLINE_MS. Seconds. */
const SETTLED_S = 10;

/** Without executions progress is written this often, so that readers look at no long stretch. Seconds. */
const IDLE_STEP_S = 60;

/**
 * Which executions to add next: at most about `rowsMax` of those that nobody can record any more before `to`. That is ten
 * seconds ago, or when the oldest statement of a control plane began that is still writing, because its rows carry that
 * time. Undefined when there is nothing to do.
 *
 * Has to be a statement of its own, before the one that adds: only a later one is sure to see everything that had ended here.
 */
export async function nextStep(
  database: Database,
  rowsMax: number,
  settledSeconds = SETTLED_S,
): Promise<RollStep | undefined> {
  const [step] = await database.run(
    'find executions to roll',
    (sql) => sql<(RollStep & { worthwhile: boolean })[]>`
      with progress as (
        select rolled_until from metric_progress where name = 'executions'
      ), settled as (
        select least(now() - ${settledSeconds} * interval '1 second', min(xact_start)) as until
        from pg_stat_activity
        where datname = current_database() and application_name = 'lambda-control-plane' and backend_xid is not null
          and pid <> pg_backend_pid()
      ), full_step as (
        select recorded_at from executions where recorded_at >= (select rolled_until from progress)
        order by recorded_at offset ${rowsMax} limit 1
      ), step as (
        select rolled_until as since, least(until, greatest(cut.recorded_at, case when cut.recorded_at is not null
          then rolled_until + interval '1 microsecond' end)) as until, cut.recorded_at < until as more
        from progress cross join settled left join full_step as cut on true
      )
      select since::text as "from", until::text as "to", coalesce(more, false) as more,
        until > since + ${IDLE_STEP_S} * interval '1 second' or exists (
          select from executions where recorded_at >= since and recorded_at < until
        ) as worthwhile
      from step where until > since`,
  );
  return step?.worthwhile ? step : undefined;
}

/**
 * Adds the executions of a step to the figures and moves progress past it, both or none, whatever dies meanwhile.
 * Undefined when another replica has done so or is about to; else how many they were.
 */
export async function rollStep(database: Database, { from, to }: RollStep): Promise<number | undefined> {
  const [row] = await database.run(
    'roll executions',
    (sql) => sql<{ moved: number; executions: number }[]>`
      with step as (
        update metric_progress set rolled_until = ${to}::text::timestamptz where name in (
          select name from metric_progress where name = 'executions' and rolled_until = ${from}::text::timestamptz
          for update skip locked
        ) returning 1
      ), measured as materialized (
        select ${measuredColumns(sql)}, ${binned(sql, 60, sql`recorded_at`)} as minute
        from executions
        where recorded_at >= ${from}::text::timestamptz and recorded_at < ${to}::text::timestamptz
          and ${isOfFunction(sql)} and (select count(*) from step) = 1
      ), counted as (
        select minute, project_id, function_id, max(function_name) as function_name, ${summedExecutions(sql)}
        from measured group by 1, 2, 3
      ), bucketed as (
        select minute, project_id, function_id, 'duration' as kind, duration_bucket as bucket, count(*) as n
        from measured where duration_bucket is not null group by 1, 2, 3, 5
        union all
        select minute, project_id, function_id, 'cpu', cpu_bucket, count(*)
        from measured where cpu_bucket is not null group by 1, 2, 3, 5
      ), ${addFigures(sql)}
      select (select count(*) from step)::integer as moved, (select count(*) from measured)::integer as executions`,
  );
  return row?.moved === 1 ? row.executions : undefined;
}
