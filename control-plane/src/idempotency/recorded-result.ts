import type { FunctionError, HttpHead } from '@lambda-fleet/proto';
import type { Database } from '../db/database.js';
import type { ExecutionError, ExecutionReceipt } from '../db/schema.js';
import { isExact } from '../db/stored-body.js';
import type { OutcomeName } from '../invocations/invocation.js';

/** How an invocation ended, as its execution has it. */
export interface RecordedResult {
  readonly outcome: OutcomeName;
  readonly versionNumber: number;
  readonly nodeId: string | undefined;
  readonly receipt: ExecutionReceipt;
  readonly error: FunctionError | undefined;
  /** Of an HTTP response. */
  readonly statusCode: number | undefined;
  /** Undefined: it is not recorded. */
  readonly http: HttpHead | undefined;
  /** Undefined: it is not recorded byte for byte. */
  readonly body: Buffer | undefined;
  /** Milliseconds since it was recorded. */
  readonly ageMs: number;
}

interface Row {
  readonly outcome: OutcomeName;
  readonly versionNumber: number;
  readonly nodeId: string | null;
  readonly receipt: ExecutionReceipt;
  readonly error: ExecutionError | null;
  readonly statusCode: number | null;
  readonly output: string | null;
  readonly outputBytes: Buffer | null;
  readonly ageMs: number;
}

/**
 * What is known of an invocation whose caller was never answered. The head of an HTTP response is not recorded; a body is,
 * unless the database was too slow for it.
 */
export async function readRecordedResult(
  database: Database,
  projectId: string,
  invocationId: string,
): Promise<RecordedResult | undefined> {
  const [row] = await database.run(
    'read recorded result',
    (sql) => sql<Row[]>`
      select e.outcome, e.version_number, e.node_id, e.receipt, e.error, e.status_code, e.output, b.output as output_bytes,
        (extract(epoch from now() - e.recorded_at) * 1000)::double precision as age_ms
      from executions e left join execution_bodies b on b.execution_id = e.id
      where e.project_id = ${projectId} and e.id = ${invocationId}`,
  );
  if (row === undefined) return undefined;
  const { outcome, versionNumber, receipt, ageMs } = row;
  return {
    ...{ outcome, versionNumber, receipt, ageMs },
    nodeId: row.nodeId ?? undefined,
    error: row.error === null ? undefined : functionErrorOf(row.error),
    statusCode: row.statusCode ?? undefined,
    http: undefined,
    body: row.outputBytes ?? bytesOf(row.output),
  };
}

function functionErrorOf({ errorType, errorMessage, trace, location }: ExecutionError): FunctionError {
  return { errorType, errorMessage, trace: [...(trace ?? [])], ...(location ?? { file: '', line: 0, column: 0 }) };
}

function bytesOf(output: string | null): Buffer | undefined {
  return output === null || !isExact(output) ? undefined : Buffer.from(output);
}
