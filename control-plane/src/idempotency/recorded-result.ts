import type { FunctionError, HttpHead } from '@lambda-fleet/proto';
import type { Database } from '../db/database.js';
import type { ExecutionError, ExecutionReceipt } from '../db/schema.js';
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
  readonly ageMs: number;
}

/**
 * What is known of an invocation whose caller was never answered. The head of an HTTP response is not recorded; a body is
 * when it is text of at most 64 KiB.
 */
export async function readRecordedResult(
  database: Database,
  projectId: string,
  invocationId: string,
): Promise<RecordedResult | undefined> {
  const [row] = await database.run(
    'read recorded result',
    (sql) => sql<Row[]>`
      select outcome, version_number, node_id, receipt, error, status_code, output,
        (extract(epoch from now() - recorded_at) * 1000)::double precision as age_ms
      from executions where project_id = ${projectId} and id = ${invocationId}`,
  );
  if (row === undefined) return undefined;
  const { outcome, versionNumber, receipt, ageMs } = row;
  return {
    ...{ outcome, versionNumber, receipt, ageMs },
    nodeId: row.nodeId ?? undefined,
    error: row.error === null ? undefined : functionErrorOf(row.error),
    statusCode: row.statusCode ?? undefined,
    http: undefined,
    body: bytesOf(row.output),
  };
}

function functionErrorOf({ errorType, errorMessage, trace, location }: ExecutionError): FunctionError {
  return { errorType, errorMessage, trace: [...(trace ?? [])], ...(location ?? { file: '', line: 0, column: 0 }) };
}

/** NUL was recorded as U+FFFD, so text with that is not certain to be what was returned. */
function bytesOf(output: string | null): Buffer | undefined {
  return output === null || output.includes('\uFFFD') ? undefined : Buffer.from(output);
}
