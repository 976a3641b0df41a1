import { withDeadline } from '@lambda-fleet/common/deadline';
import { InvokeKind } from '@lambda-fleet/proto';
import type { PostgresArtifactStore } from '../artifacts/postgres-artifact-store.js';
import { type AttemptRunner, gone, notMade } from '../async/run-attempt.js';
import { ALONE_FROM_LOSSES, attemptOf } from '../async/run-function.js';
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
  return async (row, { signal, begin }) => {
    if (row.leftMs <= 0) return notMade('its age limit passed while it was queued');
    const job = await table.code(row.id);
    if (job === undefined) return gone('The job was removed.');
    const arrivedAt = performance.now();
    const archive = await archiveOf({ source: job.code, filename: jobFile(job.runtime) }, job.runtime);
    const version = jobVersion(job, await artifacts.put(job.projectId, archive));
    const result = await invoke(version, {
      id: row.id,
      kind: InvokeKind.EVENT,
      trigger: 'job',
      payload: row.payload,
      traceId: '',
      clientContext: '',
      singleUse: true,
      arrivedAt,
      resolveMs: 0,
      receiveMs: 0,
      attempt: { epoch: row.epoch, alone: row.losses >= ALONE_FROM_LOSSES },
      beforeSend: begin,
      signal,
    });
    forgetVersions([version.spec.versionId]);
    // Whoever sees that the job has finished finds its lines, which came before the result.
    if (result.attested) await withDeadline('storing log lines', LOGS_WAIT_MS, logsStored()).catch(() => undefined);
    return attemptOf(result);
  };
}
