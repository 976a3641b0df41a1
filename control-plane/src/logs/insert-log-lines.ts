import type { Database } from '../db/database.js';
import type { StoredLogLine } from './log-line.js';
import type { NewLogLine } from './log-writer.js';

/** A row's columns and its entries in three indexes, beside its text. Measured: 264 to 310 for lines of 10 to 1,000 bytes. */
export const STORED_LINE_OVERHEAD_BYTES = 280;

/** Class and key of the advisory lock. Arbitrary, and the same in every process. */
const TURN = [76_210_111, 0] as const;

/**
 * Stores and counts lines in one statement, skips those that are there already, and returns the new ones by id.
 *
 * Replicas take turns, from before an id is drawn until the commit: a line with a lower id never appears after one with a
 * higher id was seen, so whoever follows may ask for what is behind the last one.
 */
export async function insertLogLines(
  database: Database,
  lines: readonly NewLogLine[],
): Promise<readonly StoredLogLine[]> {
  const rows = lines.map((line) => ({
    project_id: line.projectId,
    function_id: line.functionId,
    execution_id: line.executionId,
    version_id: line.versionId,
    epoch: line.epoch,
    sequence: line.sequence,
    at: line.at.toISOString(),
    stream: line.stream,
    level: line.level,
    text: line.text,
  }));
  const stored = await database.run(
    'store log lines',
    (sql) => sql<StoredLogLine[]>`
      WITH turn AS MATERIALIZED (
        SELECT pg_advisory_xact_lock(${TURN[0]}::integer, ${TURN[1]}::integer)
      ), stored AS (
        INSERT INTO log_lines (project_id, function_id, execution_id, version_id, epoch, sequence, at, stream, level, text)
        SELECT project_id, function_id, execution_id, version_id, epoch, sequence, at, stream, level, text
        FROM turn, jsonb_to_recordset(${sql.json(rows)}) AS r (
          project_id text, function_id uuid, execution_id uuid, version_id uuid, epoch integer, sequence integer, at timestamptz,
          stream text, level text, text text
        )
        ON CONFLICT (execution_id, epoch, sequence) DO NOTHING
        RETURNING *
      ), counted AS (
        INSERT INTO log_minutes AS m (minute, project_id, bytes, last_id)
        SELECT date_trunc('minute', now()), project_id, sum(octet_length(text) + ${STORED_LINE_OVERHEAD_BYTES}), max(id)
        FROM stored GROUP BY project_id ORDER BY project_id
        ON CONFLICT (minute, project_id) DO UPDATE SET bytes = m.bytes + excluded.bytes,
          last_id = greatest(m.last_id, excluded.last_id)
      )
      SELECT * FROM stored`,
  );
  return [...stored].sort((a, b) => a.id - b.id);
}
