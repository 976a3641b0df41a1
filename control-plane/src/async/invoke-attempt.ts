import { InvokeKind } from '@lambda-fleet/proto';
import { storableError } from '../db/storable-error.js';
import type { ResolvedVersion } from '../functions/resolved-version.js';
import type { InvocationResult, Invoke } from '../invocations/invocation.js';
import type { ClaimedInvocation } from './async-invocation.js';
import type { Attempt, AttemptContext } from './run-attempt.js';

/** What took so many nodes down with it, or was there by chance, gets one for itself: nobody else is to be its victim. */
const ALONE_FROM_LOSSES = 2;

/**
 * Runs one attempt on a node.
 *
 * @param version that the attempt runs
 * @param singleUse in a sandbox that is used for nothing else
 */
export function invokeAttempt(
  invoke: Invoke,
  version: ResolvedVersion,
  row: ClaimedInvocation,
  { signal, begin }: AttemptContext,
  singleUse: boolean,
): Promise<InvocationResult> {
  return invoke(version, {
    id: row.id,
    kind: InvokeKind.EVENT,
    trigger: row.trigger,
    payload: row.payload,
    traceId: row.context.traceId ?? '',
    clientContext: row.context.clientContext ?? '',
    singleUse,
    arrivedAt: performance.now(),
    resolveMs: 0,
    receiveMs: 0,
    attempt: { epoch: row.epoch, alone: row.losses >= ALONE_FROM_LOSSES },
    beforeSend: begin,
    signal,
  });
}

/** @param result of an invocation with an `attempt` */
export function attemptOf(result: InvocationResult): Attempt {
  const { outcome, attested, error, reason, receipt, version, body, http, nodeId, acknowledge } = result;
  const finishedAtMs = Date.now();
  return {
    end: {
      outcome,
      // Where the node said nothing, it may be running still.
      over: outcome !== 'outcome_unknown' || attested,
      lost: false,
      error: error === undefined ? null : storableError(error),
      reason,
      receipt,
    },
    made: {
      versionId: version.spec.versionId,
      versionNumber: version.spec.versionNumber,
      nodeId,
      statusCode: http?.statusCode,
      body,
      startedAtMs: finishedAtMs - (receipt.totalMs ?? 0),
      finishedAtMs,
    },
    acknowledge,
  };
}
