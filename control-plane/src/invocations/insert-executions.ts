import type { Database } from '../db/database.js';
import { type ExecutionRecord, executionRows, haveBodies } from '../executions/execution-rows.js';
import { recordExecutions } from '../executions/record-executions.js';

/** Writes a batch of executions in one statement. */
export async function insertExecutions(database: Database, records: readonly ExecutionRecord[]): Promise<void> {
  await database.run(
    'record executions',
    (sql) => sql`
      with work as (${executionRows(sql, records)}),
        ${recordExecutions(sql, 'work', { withBodies: haveBodies(records) })}
      select count(*)::integer as executions from recorded`,
  );
}
