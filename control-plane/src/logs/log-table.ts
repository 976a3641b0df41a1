import type { Database } from '../db/database.js';
import type { LogFilter } from './log-filter.js';
import type { StoredLogLine } from './log-line.js';

/** Lines of one execution that are shown at most. */
const EXECUTION_LINES_MAX = 10_000;

/** Reads stored lines. Writing them is the log writer's. */
export class LogTable {
  constructor(private readonly database: Database) {}

  ofExecution(projectId: string, executionId: string): Promise<readonly StoredLogLine[]> {
    return this.database.run(
      'logs of execution',
      (sql) => sql<StoredLogLine[]>`
        select * from log_lines where project_id = ${projectId} and execution_id = ${executionId}
        order by epoch, sequence limit ${EXECUTION_LINES_MAX}`,
    );
  }

  /** The newest `limit` lines, oldest first. */
  newest(
    projectId: string,
    functionId: string,
    limit: number,
    since: Date | undefined,
    { search, executionId }: LogFilter = {},
  ): Promise<readonly StoredLogLine[]> {
    return this.database.run(
      'newest logs',
      (sql) => sql<StoredLogLine[]>`
        select * from (
          select * from log_lines where project_id = ${projectId} and function_id = ${functionId}
            ${since === undefined ? sql`` : sql`and at >= ${since}`}
            ${executionId === undefined ? sql`` : sql`and execution_id = ${executionId}`}
            ${search === undefined ? sql`` : sql`and position(${search} in text) > 0`}
          order by id desc limit ${limit}
        ) newest order by id`,
    );
  }

  /** The first `limit` lines after line `id`, oldest first. */
  after(
    projectId: string,
    functionId: string,
    id: number,
    limit: number,
    { search, executionId }: LogFilter = {},
  ): Promise<readonly StoredLogLine[]> {
    return this.database.run(
      'logs after',
      (sql) => sql<StoredLogLine[]>`
        select * from log_lines where project_id = ${projectId} and function_id = ${functionId} and id > ${id}
          ${executionId === undefined ? sql`` : sql`and execution_id = ${executionId}`}
          ${search === undefined ? sql`` : sql`and position(${search} in text) > 0`}
        order by id limit ${limit}`,
    );
  }

  /** The id of the newest line, 0 when there is none. */
  async lastId(projectId: string, functionId: string): Promise<number> {
    const [row] = await this.database.run(
      'last log',
      (sql) => sql<{ id: number | null }[]>`
        select max(id) as id from log_lines where project_id = ${projectId} and function_id = ${functionId}`,
    );
    return row?.id ?? 0;
  }
}
