import type { StoredLogLine } from './log-line.js';

/** Which of a function's lines are wanted; what is undefined does not matter. */
export interface LogFilter {
  /** Part of the line's text, as it is written. */
  readonly search?: string | undefined;
  /** The invocation that logged it. */
  readonly executionId?: string | undefined;
}

export function matches(line: StoredLogLine, { search, executionId }: LogFilter): boolean {
  return (
    (executionId === undefined || line.executionId === executionId) &&
    (search === undefined || line.text.includes(search))
  );
}
