import type { Sql } from '../db/connection-target.js';
import { type Fragment, isOfFunction, measuredColumns } from './execution-figures.js';

/**
 * Executions that a reader looks at itself at most: about 100 ms of work. Above 1,000 a second they are not all of those
 * that were not added yet, and the newest seconds look quieter than they were.
 */
const ROWS_MAX = 20_000;

/**
 * The part of a statement that reads what has not been added to minutes and hours yet: the common table expressions
 * `progress` with `rolled_until`, and `recent`, executions of a project's functions, or of one of them. One statement sees
 * progress and the rows that it stands for as they were at one moment, so nothing is counted twice.
 */
export function recentExecutions(sql: Sql, projectId: string, functionId?: string): Fragment {
  return sql`
    progress as (
      select rolled_until from metric_progress where name = 'executions'
    ), recent as materialized (
      select ${measuredColumns(sql)}
      from (
        select * from executions where recorded_at >= (select rolled_until from progress)
        order by recorded_at desc limit ${ROWS_MAX}
      ) as newest
      where project_id = ${projectId} and ${isOfFunction(sql)}
        ${functionId === undefined ? sql`` : sql`and function_id = ${functionId}`}
    )`;
}
