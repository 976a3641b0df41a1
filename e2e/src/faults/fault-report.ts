import { appendFileSync } from 'node:fs';
import type { Verdict } from './verdict.js';

/** One row of the fault table, as `npm run test:faults` prints it and `docs/faults.md` keeps it. */
export interface FaultRow {
  /** What breaks. */
  readonly fault: string;
  /** How it is brought about on one machine. */
  readonly how: string;
  readonly verdict: Verdict;
  /** What else was seen, in words. */
  readonly seen?: string;
}

/** Prints the row, and adds it to the report when one is written. A row is recorded before it is judged. */
export function recordFault(row: FaultRow): void {
  const { verdict } = row;
  process.stdout.write(
    `fault: ${row.fault}: ${verdict.accepted} accepted, ${verdict.succeeded} succeeded, ${verdict.dead} dead, ` +
      `${verdict.rerun} re-run, ${verdict.lost.length} lost; sync ${verdict.syncCalls}, failed ${verdict.syncFailed}, ` +
      `run twice ${verdict.syncTwice.length}${row.seen === undefined ? '' : `; ${row.seen}`}\n`,
  );
  const report = process.env.LAMBDA_FAULTS_REPORT;
  if (report !== undefined) appendFileSync(report, `${JSON.stringify(row)}\n`);
}
