import type { Database } from '../db/database.js';
import type { ExecutionRecord } from './execution-record.js';

/**
 * Writes a batch of executions in one statement.
 *
 * The first terminal record of an invocation stays. The one exception is
 * `outcome_unknown`, which this control plane writes when a link breaks: when the
 * agent comes back and knows better, its word replaces it.
 */
export async function insertExecutions(database: Database, records: readonly ExecutionRecord[]): Promise<void> {
  const rows = records.map(executionRow);
  await database.run(
    'record executions',
    (sql) => sql`
    INSERT INTO executions (
      id, project_id, function_id, function_name, version_id, version_number, trigger, epoch, outcome, status_code,
      error, receipt, node_id, input, output, started_at, finished_at
    )
    SELECT
      id, project_id, function_id, function_name, version_id, version_number, trigger, epoch, outcome, status_code,
      error, receipt, node_id, input, output, started_at, finished_at
    FROM jsonb_to_recordset(${sql.json(rows)}) AS r (
      id uuid, project_id text, function_id uuid, function_name text, version_id uuid, version_number integer,
      trigger text, epoch integer, outcome text, status_code smallint, error jsonb, receipt jsonb, node_id text,
      input text, output text, started_at timestamptz, finished_at timestamptz
    )
    ON CONFLICT (id) DO UPDATE SET
      outcome = excluded.outcome, status_code = excluded.status_code, error = excluded.error, receipt = excluded.receipt,
      node_id = excluded.node_id, output = excluded.output, finished_at = excluded.finished_at
    WHERE executions.outcome = 'outcome_unknown' AND excluded.outcome <> 'outcome_unknown'
      AND executions.epoch = excluded.epoch`,
  );
}

/** A record as the JSON that a statement reads it from. */
export function executionRow(record: ExecutionRecord) {
  return {
    id: record.id,
    project_id: record.projectId,
    function_id: record.functionId,
    function_name: record.functionName,
    version_id: record.versionId,
    version_number: record.versionNumber,
    trigger: record.trigger,
    epoch: record.epoch,
    outcome: record.outcome,
    status_code: record.statusCode ?? null,
    error: record.error === undefined ? null : { ...record.error },
    receipt: { ...record.receipt },
    node_id: record.nodeId ?? null,
    input: record.input ?? null,
    output: record.output ?? null,
    started_at: new Date(record.startedAtMs).toISOString(),
    finished_at: new Date(record.finishedAtMs).toISOString(),
  };
}
