import type { Database } from '../db/database.js';
import type { ExecutionError } from '../db/schema.js';
import { WHOLE_PROJECT } from './add-figures.js';
import { isOfFunction } from './execution-figures.js';
import { recentExecutions } from './recent-executions.js';

export interface RankedFunction {
  readonly name: string;
  readonly invocations: number;
  readonly errors: number;
  readonly throttles: number;
}

export interface Failure {
  readonly id: string;
  readonly functionName: string;
  readonly trigger: string;
  readonly outcome: string;
  readonly error: Pick<ExecutionError, 'errorType' | 'errorMessage'> | null;
  readonly finishedAt: Date;
}

export interface ProjectCounts {
  readonly functions: number;
  /** Async invocations that wait. */
  readonly queueDepth: number;
  readonly deadLetters: number;
}

/** What the dashboard shows of a project besides its series. */
export class ProjectOverview {
  constructor(private readonly database: Database) {}

  /**
   * The functions with the most invocations and those with the most errors, `limit` each, of so many hours up to now.
   * Functions that were deleted are not among them.
   *
   * @throws FleetError `unavailable`
   */
  async topFunctions(
    projectId: string,
    hours: number,
    limit: number,
  ): Promise<{ byInvocations: readonly RankedFunction[]; byErrors: readonly RankedFunction[] }> {
    const rows = await this.database.run(
      'rank functions',
      (sql) => sql<(RankedFunction & { invocationsRank: number; errorsRank: number })[]>`
        with ${recentExecutions(sql, projectId)}, parts as (
          select function_id, sum(invocations) as invocations,
            sum(function_errors + timeouts + outcome_unknown + not_started) as errors, sum(throttles) as throttles
          from function_hours
          where project_id = ${projectId} and function_id <> ${WHOLE_PROJECT}
            and hour > now() - ${hours} * interval '1 hour'
          group by function_id
          union all
          select function_id, count(*), count(*) filter (where outcome <> 'success'), 0 from recent group by function_id
        ), sums as (
          select function_id, sum(invocations)::float8 as invocations, sum(errors)::float8 as errors,
            sum(throttles)::float8 as throttles
          from parts group by function_id
        ), ranked as (
          select f.name, invocations, errors, throttles,
            row_number() over (order by invocations desc, f.name) as invocations_rank,
            row_number() over (order by errors desc, f.name) as errors_rank
          from sums join functions f on f.id = function_id and f.project_id = ${projectId}
        )
        select * from ranked where invocations_rank <= ${limit} or errors_rank <= ${limit}`,
    );
    const top = (rank: 'invocationsRank' | 'errorsRank', figure: 'invocations' | 'errors') =>
      rows
        .filter((row) => row[rank] <= limit && row[figure] > 0)
        .sort((a, b) => a[rank] - b[rank])
        .map(({ name, invocations, errors, throttles }) => ({ name, invocations, errors, throttles }));
    return { byInvocations: top('invocationsRank', 'invocations'), byErrors: top('errorsRank', 'errors') };
  }

  /**
   * Newest first.
   *
   * @throws FleetError `unavailable`
   */
  newestFailures(projectId: string, limit: number): Promise<readonly Failure[]> {
    return this.database.run(
      'list failures',
      (sql) => sql<Failure[]>`
        select id, function_name, trigger, outcome, finished_at,
          case when error is not null then jsonb_build_object(
            'errorType', error -> 'errorType', 'errorMessage', error -> 'errorMessage') end as error
        from executions where project_id = ${projectId} and outcome <> 'success' and ${isOfFunction(sql)}
        order by id desc limit ${limit}`,
    );
  }

  /** @throws FleetError `unavailable` */
  async counts(projectId: string): Promise<ProjectCounts> {
    const [row] = await this.database.run(
      'count what a project has',
      (sql) => sql<ProjectCounts[]>`
        select
          (select count(*)::integer from functions where project_id = ${projectId}) as functions,
          (select coalesce(sum(queued), 0)::integer from lanes where project_id = ${projectId}) as queue_depth,
          (select count(*)::integer from dead_letters where project_id = ${projectId}) as dead_letters`,
    );
    return row ?? { functions: 0, queueDepth: 0, deadLetters: 0 };
  }
}
