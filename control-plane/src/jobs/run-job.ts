import { withDeadline } from '@lambda-fleet/common/deadline';
import type { PostgresArtifactStore } from '../artifacts/postgres-artifact-store.js';
import { attemptOf, invokeAttempt } from '../async/invoke-attempt.js';
import { type AttemptRunner, gone } from '../async/run-attempt.js';
import { archiveOf } from '../functions/code.js';
import type { Invoke } from '../invocations/invocation.js';
import type { JobTable } from './job-table.js';
import { jobFile, jobVersion } from './job-version.js';

export interface RunJobOptions {
  readonly table: JobTable;
  readonly artifacts: PostgresArtifactStore;
  readonly invoke: Invoke;
  /** Tells every node that these versions will not be asked for again. Best effort. */
  readonly forgetVersions: (versionIds: readonly string[]) => void;
  /** Resolves when the log lines that have come until now are stored. */
  readonly logsStored: () => Promise<void>;
}

/** A job's end is not held up for longer by a backlog of log lines. */
const LOGS_WAIT_MS = 1_000;

/**
 * Makes attempts at jobs: each runs the code in a sandbox that is used for nothing else.
 *
 * The archive is stored for each attempt, because the hourly sweep removes archives that no function uses; the same code
 * finds it there.
 */
export function createRunJob({ table, artifacts, invoke, forgetVersions, logsStored }: RunJobOptions): AttemptRunner {
  return async (row, context) => {
    const job = await table.code(row.id);
    if (job === undefined) return gone('The job was removed.');
    const archive = await archiveOf({ source: job.code, filename: jobFile(job.runtime) }, job.runtime);
    const version = jobVersion(job, await artifacts.put(job.projectId, archive));
    const result = await invokeAttempt(invoke, version, row, context, true);
    forgetVersions([version.spec.versionId]);
    // Whoever sees that the job has finished finds its lines, which came before the result.
    if (result.attested) await withDeadline('storing log lines', LOGS_WAIT_MS, logsStored()).catch(() => undefined);
    return attemptOf(result);
  };
}
