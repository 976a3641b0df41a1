import { FleetError } from '@lambda-fleet/common/errors';
import type { Database } from '../db/database.js';
import type { ExecutionError, ExecutionReceipt } from '../db/schema.js';

/** How the API shows an execution. */
export interface Execution {
  readonly id: string;
  readonly functionName: string;
  readonly version: number;
  readonly trigger: string;
  readonly outcome: string;
  readonly statusCode: number | null;
  readonly error: ExecutionError | null;
  readonly receipt: ExecutionReceipt;
  readonly nodeId: string | null;
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
  readonly outcome?: string;
  readonly trigger?: string;
  /** Executions older than this one. */
  readonly beforeId?: string;
  readonly limit: number;
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** Reads recorded executions. Writing them is the journal's. */
export class ExecutionTable {
  constructor(private readonly database: Database) {}

  /** Newest first. */
  list(projectId: string, filter: ExecutionFilter): Promise<readonly Execution[]> {
    const { functionName, outcome, trigger, beforeId, limit } = filter;
    if (beforeId !== undefined && !UUID.test(beforeId)) {
      throw new FleetError('invalid_request', 'cursor is not one that this list gave out.', { field: 'cursor' });
    }
    return this.database.run(
      'list executions',
      (sql) => sql<Execution[]>`
        select id, function_name, version_number as version, trigger, epoch, attempts, outcome, status_code, error, receipt, node_id,
          started_at, finished_at
        from executions
        where project_id = ${projectId}
          ${functionName === undefined ? sql`` : sql`and function_name = ${functionName}`}
          ${outcome === undefined ? sql`` : sql`and outcome = ${outcome}`}
          ${trigger === undefined ? sql`` : sql`and trigger = ${trigger}`}
          ${beforeId === undefined ? sql`` : sql`and id < ${beforeId}`}
        order by id desc limit ${limit}`,
    );
  }

  /** @throws FleetError `execution_not_found` */
  async get(projectId: string, id: string): Promise<ExecutionDetail> {
    const found = await this.find(projectId, id);
    if (found !== undefined) return found;
    throw new FleetError(
      'execution_not_found',
      'There is no execution with this id in this project. One that has just ended is recorded within a second.',
    );
  }

  async find(projectId: string, id: string): Promise<ExecutionDetail | undefined> {
    const [row] = UUID.test(id)
      ? await this.database.run(
          'get execution',
          (sql) => sql<ExecutionDetail[]>`
            select id, function_name, version_number as version, trigger, epoch, attempts, outcome, status_code, error, receipt, node_id,
              started_at, finished_at, input, output
            from executions where project_id = ${projectId} and id = ${id}`,
        )
      : [];
    return row;
  }
}
