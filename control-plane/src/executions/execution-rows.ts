import type postgres from 'postgres';
import type { Sql } from '../db/connection-target.js';
import type { ExecutionError, ExecutionReceipt } from '../db/schema.js';
import type { OutcomeName } from '../invocations/invocation.js';
import { PackedBodies } from './packed-bodies.js';

type Fragment = postgres.PendingQuery<postgres.Row[]>;

/** One row of `executions` before it is written. Times are epoch milliseconds. */
export interface ExecutionRecord {
  readonly id: string;
  readonly projectId: string;
  readonly functionId: string;
  readonly functionName: string;
  readonly versionId: string;
  readonly versionNumber: number;
  readonly trigger: string;
  readonly epoch: number;
  readonly outcome: OutcomeName;
  readonly statusCode: number | undefined;
  readonly error: ExecutionError | undefined;
  readonly receipt: ExecutionReceipt;
  readonly nodeId: string | undefined;
  /** Event and result, as text and, where that is not what they are, as bytes: see `stored-body.ts`. */
  readonly input: string | undefined;
  readonly output: string | undefined;
  readonly inputBytes?: Buffer | undefined;
  readonly outputBytes?: Buffer | undefined;
  /** Undefined when only the function's row can say whether they are kept; it has the last word in any case. */
  readonly keepPayloads: boolean | undefined;
  readonly startedAtMs: number;
  readonly finishedAtMs: number;
  /** Of an async invocation: the attempts that its function answers for, and when it was accepted. */
  readonly attempts?: number;
  readonly acceptedAtMs?: number;
}

/** Of its event and result as text, in characters. */
export function textsLength({ input, output }: ExecutionRecord): number {
  return (input?.length ?? 0) + (output?.length ?? 0);
}

/** Of its event and result as bytes. */
export function bytesLength({ inputBytes, outputBytes }: ExecutionRecord): number {
  return (inputBytes?.length ?? 0) + (outputBytes?.length ?? 0);
}

/** Whether any of them has a body that its text cannot give back. */
export function haveBodies(records: readonly ExecutionRecord[]): boolean {
  return records.some(({ inputBytes, outputBytes }) => inputBytes !== undefined || outputBytes !== undefined);
}

/**
 * Records as a query, for a statement that stores them: the columns of `executions` without `recorded_at`, `keep_payloads`
 * (false: only the function's row could say so), and when one {@link haveBodies} `input_bytes` and `output_bytes` (bytea,
 * null unless kept apart).
 */
export function executionRows(sql: Sql, records: readonly ExecutionRecord[]): Fragment {
  const packed = new PackedBodies();
  const rows = records.map((record) => toRow(record, packed)) as unknown as postgres.JSONValue;
  const bytes = sql`, ${packed.body(sql, 'input')} as input_bytes, ${packed.body(sql, 'output')} as output_bytes`;
  // What few rows have is in `more`: each column of a record set costs every row a search for its name.
  return sql`
    select
      id, project_id, function_id, function_name, version_id, version_number, trigger, epoch, outcome, status_code,
      error, receipt, node_id, input, output, started_at, finished_at,
      coalesce((more ->> 'attempts')::smallint, 1) as attempts, (more ->> 'accepted_at')::timestamptz as accepted_at,
      coalesce((more ->> 'keep_payloads')::boolean, true) as keep_payloads ${packed.isEmpty ? sql`` : bytes}
    from jsonb_to_recordset(${sql.json(rows)}) as r (
      id uuid, project_id text, function_id uuid, function_name text, version_id uuid, version_number integer,
      trigger text, epoch integer, outcome text, status_code smallint, error jsonb, receipt jsonb, node_id text,
      input text, output text, started_at timestamptz, finished_at timestamptz, more jsonb
    ) ${packed.isEmpty ? sql`` : sql`, ${packed.source(sql)}`}`;
}

/** What is undefined is left out of the JSON, and null in the row. */
function toRow(record: ExecutionRecord, packed: PackedBodies) {
  const { inputBytes, outputBytes, keepPayloads, attempts, acceptedAtMs } = record;
  const rare = [inputBytes, outputBytes, attempts, acceptedAtMs].some((value) => value !== undefined);
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
    status_code: record.statusCode,
    error: record.error,
    receipt: record.receipt,
    node_id: record.nodeId,
    input: record.input,
    output: record.output,
    started_at: new Date(record.startedAtMs).toISOString(),
    finished_at: new Date(record.finishedAtMs).toISOString(),
    more:
      rare || keepPayloads !== true
        ? {
            attempts,
            accepted_at: acceptedAtMs === undefined ? undefined : new Date(acceptedAtMs).toISOString(),
            keep_payloads: keepPayloads ?? false,
            input: inputBytes && packed.add(inputBytes),
            output: outputBytes && packed.add(outputBytes),
          }
        : undefined,
  };
}
