import { FleetError } from '@lambda-fleet/common/errors';
import { validate as isUuid } from 'uuid';
import type { Sql } from '../db/connection-target.js';
import type { Database } from '../db/database.js';
import type { ExecutionError, ExecutionReceipt } from '../db/schema.js';
import type { OutcomeName } from '../invocations/invocation.js';
import { type ExecutionStatus, outcomeOf, statusOf } from './execution-status.js';

/** How the API shows an execution. */
export interface Execution {
  readonly id: string;
  readonly functionName: string;
  readonly version: number;
  readonly trigger: string;
  readonly status: ExecutionStatus;
  readonly outcome: OutcomeName;
  readonly statusCode: number | null;
  readonly error: ExecutionError | null;
  readonly receipt: ExecutionReceipt;
  readonly nodeId: string | null;
  /** The number of the last attempt: all are counted, whoever answers for them. */
  readonly epoch: number;
  /** Attempts that its function answers for. */
  readonly attempts: number;
  /** When an async invocation was accepted. */
  readonly acceptedAt: Date | null;
  readonly startedAt: Date;
  readonly finishedAt: Date;
}

export interface ExecutionDetail extends Execution {
  /** Text; null when it was too long to keep or is not UTF-8. */
  readonly input: string | null;
  readonly output: string | null;
}

export interface ExecutionFilter {
  readonly functionName?: string;
  readonly outcome?: OutcomeName;
  readonly status?: ExecutionStatus;
  readonly trigger?: string;
  /** Asked for at this time or later, which its id tells; and before this one. */
  readonly since?: Date;
  readonly until?: Date;
  /** Executions older than this one. */
  readonly beforeId?: string;
  readonly limit: number;
}

export interface ExecutionPage {
  readonly executions: readonly Execution[];
  /** The next page is of those older than this one; undefined when there is none. */
  readonly nextBeforeId: string | undefined;
}

/** Executions that one page looks at, in some 100 ms: a rare outcome or trigger may be on a later one. */
const SEARCHED_MAX = 100_000;

/** Reads recorded executions. Writing them is the journal's. */
export class ExecutionTable {
  constructor(private readonly database: Database) {}

  /** Newest first: in the order in which they were asked for. */
  async list(projectId: string, filter: ExecutionFilter): Promise<ExecutionPage> {
    const { trigger, beforeId, limit } = filter;
    checkCursor(beforeId);
    const asked = outcomeOf(filter.status);
    if (asked !== undefined && filter.outcome !== undefined && filter.outcome !== asked) {
      return { executions: [], nextBeforeId: undefined };
    }
    const outcome = filter.outcome ?? asked;
    const isSearch = outcome !== undefined || trigger !== undefined;
    const endId = isSearch ? await this.#endOfSearch(projectId, { ...filter, outcome }) : undefined;
    const rows = await this.database.run(
      'list executions',
      (sql) => sql<ExecutionRow[]>`
        select ${columns(sql)} from executions
        where ${indexed(sql, projectId, { ...filter, outcome })}
          ${outcome === undefined ? sql`` : sql`and outcome = ${outcome}`}
          ${trigger === undefined ? sql`` : sql`and trigger = ${trigger}`}
          ${endId === undefined ? sql`` : sql`and id >= ${endId}`}
        order by id desc limit ${limit + 1}`,
    );
    const executions = rows.slice(0, limit).map(withStatus);
    return { executions, nextBeforeId: rows.length > limit ? executions.at(-1)?.id : endId };
  }

  /** Where a search for what no index finds breaks off, to go on with the next page; undefined when it need not. */
  async #endOfSearch(projectId: string, filter: ExecutionFilter): Promise<string | undefined> {
    const [row] = await this.database.run(
      'find end of search',
      (sql) => sql<{ id: string }[]>`
        select id from executions where ${indexed(sql, projectId, filter)}
        order by id desc offset ${SEARCHED_MAX - 1} limit 1`,
    );
    return row?.id;
  }

  /** @throws FleetError `execution_not_found` */
  async get(projectId: string, id: string): Promise<ExecutionDetail> {
    const found = await this.find(projectId, id);
    if (found !== undefined) return found;
    throw executionNotFound();
  }

  async find(projectId: string, id: string): Promise<ExecutionDetail | undefined> {
    const [row] = isUuid(id)
      ? await this.database.run(
          'get execution',
          (sql) => sql<(ExecutionRow & { input: string | null; output: string | null })[]>`
            select ${columns(sql)}, input, output from executions where project_id = ${projectId} and id = ${id}`,
        )
      : [];
    return row && withStatus(row);
  }
}

/** The part of a filter that has an index in the order of the list. */
function indexed(sql: Sql, projectId: string, { functionName, outcome, since, until, beforeId }: ExecutionFilter) {
  return sql`
    project_id = ${projectId}
    ${functionName === undefined ? sql`` : sql`and function_name = ${functionName}`}
    ${outcome === undefined || outcome === 'success' ? sql`` : sql`and outcome <> 'success'`}
    ${since === undefined ? sql`` : sql`and id >= ${firstIdOf(since)}`}
    ${until === undefined ? sql`` : sql`and id < ${firstIdOf(until)}`}
    ${beforeId === undefined ? sql`` : sql`and id < ${beforeId}`}`;
}

type ExecutionRow = Omit<Execution, 'status'>;

function columns(sql: Sql) {
  return sql`
    id, function_name, version_number as version, trigger, outcome, status_code, error, receipt, node_id, epoch,
    attempts, accepted_at, started_at, finished_at`;
}

function withStatus<T extends ExecutionRow>({ id, functionName, version, trigger, ...rest }: T) {
  return { id, functionName, version, trigger, status: statusOf(rest.outcome), ...rest };
}

/** The least id of an invocation of this time: a UUID of version 7 begins with its milliseconds, in 48 bits. */
export function firstIdOf(time: Date): string {
  const digits = Math.min(time.getTime(), 2 ** 48 - 1)
    .toString(16)
    .padStart(12, '0');
  return `${digits.slice(0, 8)}-${digits.slice(8)}-0000-0000-000000000000`;
}

/** @throws FleetError `invalid_request` */
export function checkCursor(beforeId: string | undefined): void {
  if (beforeId === undefined || isUuid(beforeId)) return;
  throw new FleetError('invalid_request', 'cursor is not one that this list gave out.', { field: 'cursor' });
}

export function executionNotFound(): FleetError {
  return new FleetError(
    'execution_not_found',
    'There is no execution with this id in this project. One that has just ended is recorded within a second.',
  );
}
