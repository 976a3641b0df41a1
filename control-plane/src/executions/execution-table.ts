import { FleetError } from '@lambda-fleet/common/errors';
import type { Database } from '../db/database.js';
import type { ExecutionError, ExecutionReceipt } from '../db/schema.js';
import { isExact } from '../db/stored-body.js';
import { BODY_HOURS } from './execution-sweep.js';

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

export interface ExecutionBodies {
  /** Undefined when it is not kept, or not any more. */
  readonly input: Buffer | undefined;
  readonly output: Buffer | undefined;
  /** What is there is byte for byte what it was. False when one is a text that may have held a NUL where it has U+FFFD. */
  readonly exact: boolean;
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
        select id, function_name, version_number as version, trigger, outcome, status_code, error, receipt, node_id,
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
    throw executionNotFound();
  }

  async find(projectId: string, id: string): Promise<ExecutionDetail | undefined> {
    const [row] = UUID.test(id)
      ? await this.database.run(
          'get execution',
          (sql) => sql<ExecutionDetail[]>`
            select id, function_name, version_number as version, trigger, outcome, status_code, error, receipt, node_id,
              started_at, finished_at, input, output
            from executions where project_id = ${projectId} and id = ${id}`,
        )
      : [];
    return row;
  }

  /**
   * The event and the result as bytes, for as long as they are kept.
   *
   * @throws FleetError `execution_not_found`
   */
  async bodiesOf(projectId: string, id: string): Promise<ExecutionBodies> {
    const [row] = UUID.test(id)
      ? await this.database.run(
          'get bodies',
          (sql) => sql<StoredBodies[]>`
            select e.input, e.output, b.input as input_bytes, b.output as output_bytes
            from executions e left join execution_bodies b
              on b.execution_id = e.id and b.kept_at > now() - ${BODY_HOURS} * interval '1 hour'
            where e.project_id = ${projectId} and e.id = ${id}`,
        )
      : [];
    if (row === undefined) throw executionNotFound();
    return {
      input: row.inputBytes ?? bytesOf(row.input),
      output: row.outputBytes ?? bytesOf(row.output),
      exact: isWhole(row.inputBytes, row.input) && isWhole(row.outputBytes, row.output),
    };
  }
}

interface StoredBodies {
  readonly input: string | null;
  readonly output: string | null;
  readonly inputBytes: Buffer | null;
  readonly outputBytes: Buffer | null;
}

const bytesOf = (text: string | null): Buffer | undefined => (text === null ? undefined : Buffer.from(text));

const isWhole = (bytes: Buffer | null, text: string | null): boolean =>
  bytes !== null || text === null || isExact(text);

function executionNotFound(): FleetError {
  return new FleetError(
    'execution_not_found',
    'There is no execution with this id in this project. One that has just ended is recorded within a second.',
  );
}
