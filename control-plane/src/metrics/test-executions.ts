import { v7 as uuidv7 } from 'uuid';
import type { Database } from '../db/database.js';
import type { ExecutionReceipt } from '../db/schema.js';

export interface TestExecution {
  readonly functionId: string;
  readonly functionName?: string;
  readonly projectId?: string;
  readonly trigger?: string;
  readonly outcome?: string;
  readonly receipt?: ExecutionReceipt;
}

/** Records executions, for tests, as if that had been at another time: so many seconds ago by the database's clock. */
export async function recordAgo(database: Database, secondsAgo: number, executions: readonly TestExecution[]) {
  const rows = executions.map((execution) => ({
    ...{ id: uuidv7(), project_id: execution.projectId ?? 'default', function_id: execution.functionId },
    ...{ function_name: execution.functionName ?? 'greet', trigger: execution.trigger ?? 'api' },
    ...{ outcome: execution.outcome ?? 'success', receipt: { ...execution.receipt } },
  }));
  await database.run(
    'record executions of a test',
    (sql) => sql`
      insert into executions (
        id, project_id, function_id, function_name, version_id, version_number, trigger, epoch, outcome, receipt,
        started_at, finished_at, recorded_at
      )
      select id, project_id, function_id, function_name, function_id, 1, trigger, 1, outcome, receipt, now(), now(),
        now() - ${secondsAgo} * interval '1 second'
      from jsonb_to_recordset(${sql.json(rows)}) as r (
        id uuid, project_id text, function_id uuid, function_name text, trigger text, outcome text, receipt jsonb
      )`,
  );
}

/** Makes figures of a database start anew, with progress so many seconds ago. */
export async function forgetFigures(database: Database, progressSecondsAgo: number): Promise<void> {
  await database.run('empty', (sql) => sql`truncate executions, function_minutes, function_hours`);
  await database.run(
    'set progress back',
    (sql) => sql`update metric_progress set rolled_until = now() - ${progressSecondsAgo} * interval '1 second'`,
  );
}
