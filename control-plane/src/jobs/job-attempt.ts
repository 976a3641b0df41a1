import { InvokeKind } from '@lambda-fleet/proto';
import type { PostgresArtifactStore } from '../artifacts/postgres-artifact-store.js';
import { storableError } from '../db/storable-error.js';
import { archiveOf } from '../functions/code.js';
import type { InvocationResult, Invoke, SentTo } from '../invocations/invocation.js';
import type { RunnableJob } from './job-progress.js';
import { jobFile, jobVersion } from './job-version.js';
import type { AttemptEnd } from './judge-attempt.js';

export interface JobAttemptOptions {
  readonly artifacts: PostgresArtifactStore;
  readonly invoke: Invoke;
  /** Tells every node that these versions will not be asked for again. Best effort. */
  readonly forgetVersions: (versionIds: readonly string[]) => void;
}

export interface AttemptContext {
  readonly invocationId: string;
  readonly signal: AbortSignal;
  /** Marks the job as running; false when it must not run any more. Never rejects. */
  readonly begin: (sentTo: SentTo) => Promise<boolean>;
}

/**
 * Runs a job's code once, in a sandbox that is used for nothing else.
 *
 * Its archive is stored for each attempt, because the hourly sweep removes archives that no function uses; the same
 * code finds it there.
 *
 * @throws FleetError `unavailable`, when nothing was run
 */
export async function runAttempt(
  job: RunnableJob,
  { invocationId, signal, begin }: AttemptContext,
  { artifacts, invoke, forgetVersions }: JobAttemptOptions,
): Promise<AttemptEnd> {
  const arrivedAt = performance.now();
  const archive = await archiveOf({ source: job.code, filename: jobFile(job.runtime) }, job.runtime);
  const version = jobVersion(job, await artifacts.put(job.projectId, archive));
  const result = await invoke(version, {
    id: invocationId,
    kind: InvokeKind.EVENT,
    trigger: 'job',
    payload: Buffer.from(job.args),
    traceId: '',
    clientContext: '',
    singleUse: true,
    arrivedAt,
    resolveMs: 0,
    receiveMs: 0,
    beforeSend: begin,
    signal,
  });
  forgetVersions([version.spec.versionId]);
  return endOf(result, performance.now() - arrivedAt);
}

function endOf({ outcome, attested, error, reason, body, receipt }: InvocationResult, tookMs: number): AttemptEnd {
  // Where the node said nothing, it may be running still.
  const over = outcome !== 'outcome_unknown' || attested;
  return { outcome, over, error: error === undefined ? null : storableError(error), reason, body, receipt, tookMs };
}
