import { validate as isUuid } from 'uuid';
import type { Database } from '../db/database.js';
import { isExact } from '../db/stored-body.js';
import { BODY_HOURS } from './execution-sweep.js';
import { executionNotFound } from './execution-table.js';

export interface ExecutionBodies {
  /** Undefined when it is not kept, or not any more. */
  readonly input: Buffer | undefined;
  readonly output: Buffer | undefined;
  /** What is there is byte for byte what it was. False when one is a text that may have held a NUL where it has U+FFFD. */
  readonly exact: boolean;
}

/**
 * The event and the result of an execution as bytes, for as long as they are kept.
 *
 * @throws FleetError `execution_not_found`
 */
export async function bodiesOf(database: Database, projectId: string, id: string): Promise<ExecutionBodies> {
  if (!isUuid(id)) throw executionNotFound();
  const [row] = await database.run(
    'get bodies',
    (sql) => sql<StoredBodies[]>`
      select e.input, e.output, b.input as input_bytes, b.output as output_bytes
      from executions e left join execution_bodies b
        on b.execution_id = e.id and b.kept_at > now() - ${BODY_HOURS} * interval '1 hour'
      where e.project_id = ${projectId} and e.id = ${id}`,
  );
  if (row === undefined) throw executionNotFound();
  const { input, output, inputBytes, outputBytes } = row;
  return {
    input: inputBytes ?? bytesOf(input),
    output: outputBytes ?? bytesOf(output),
    exact: isWhole(inputBytes, input) && isWhole(outputBytes, output),
  };
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
