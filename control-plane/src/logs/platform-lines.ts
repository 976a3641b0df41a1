import type { Execution } from '../executions/execution-table.js';
import type { LogLine } from './log-line.js';

/**
 * The lines of an execution between AWS's own START, END and REPORT lines. They
 * are made when read: everything in them is in the execution's record.
 */
export function withPlatformLines(execution: Execution, lines: readonly LogLine[]): readonly LogLine[] {
  const { id, receipt } = execution;
  const line = (at: Date, text: string): LogLine => ({
    id: 0,
    executionId: id,
    at,
    stream: 'platform',
    level: '',
    text,
  });
  const ended = [line(execution.finishedAt, `END RequestId: ${id}`), line(execution.finishedAt, reportLine(execution))];
  if (execution.outcome === 'timeout') {
    const seconds = ((receipt.runMs ?? 0) / 1_000).toFixed(2);
    ended.push(
      line(execution.finishedAt, `${execution.finishedAt.toISOString()} ${id} Task timed out after ${seconds} seconds`),
    );
  }
  return [line(execution.startedAt, `START RequestId: ${id} Version: ${execution.version}`), ...lines, ...ended];
}

function reportLine({ id, receipt }: Execution): string {
  const durationMs = receipt.runMs ?? 0;
  const fields = [
    `REPORT RequestId: ${id}`,
    `Duration: ${durationMs.toFixed(2)} ms`,
    `Billed Duration: ${Math.ceil(durationMs)} ms`,
  ];
  if (receipt.memoryMb !== undefined) fields.push(`Memory Size: ${receipt.memoryMb} MB`);
  if (receipt.memoryPeakBytes) fields.push(`Max Memory Used: ${Math.ceil(receipt.memoryPeakBytes / 2 ** 20)} MB`);
  if (receipt.initMs) fields.push(`Init Duration: ${receipt.initMs.toFixed(2)} ms`);
  return fields.join('\t');
}
