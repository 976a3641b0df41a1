import type { logLines } from '../db/schema.js';

/** How the API shows a line. `id` orders lines and is what a follower resumes after. */
export interface LogLine {
  readonly id: number;
  readonly executionId: string;
  readonly at: Date;
  readonly stream: 'stdout' | 'stderr' | 'platform';
  /** `DEBUG`, `INFO`, `WARN`, `ERROR`, or empty for raw output. */
  readonly level: string;
  readonly text: string;
}

/** A line as it was committed. */
export type StoredLogLine = typeof logLines.$inferSelect;

export function logLineOf({ id, executionId, at, stream, level, text }: StoredLogLine): LogLine {
  return { id, executionId, at, stream, level, text };
}
