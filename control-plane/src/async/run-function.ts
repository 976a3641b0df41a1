import { FleetError } from '@lambda-fleet/common/errors';
import { InvokeKind } from '@lambda-fleet/proto';
import { storableError } from '../db/storable-error.js';
import type { ResolvedVersion } from '../functions/resolved-version.js';
import type { InvocationResult, Invoke } from '../invocations/invocation.js';
import type { ClaimedInvocation } from './async-invocation.js';
import { type Attempt, type AttemptRunner, gone, notMade } from './run-attempt.js';

export interface RunFunctionOptions {
  /** @throws FleetError `function_not_found`, `unavailable` */
  readonly resolve: (projectId: string, name: string) => ResolvedVersion | Promise<ResolvedVersion>;
  /** Undefined when there is no such version. */
  readonly findVersion: (projectId: string, versionId: string) => Promise<ResolvedVersion | undefined>;
  readonly invoke: Invoke;
}

/** What took so many nodes down with it, or was there by chance, gets one for itself: nobody else is to be its victim. */
export const ALONE_FROM_LOSSES = 2;

/** Makes attempts at invocations of functions. */
export function createRunFunction(options: RunFunctionOptions): AttemptRunner {
  return async (row, { signal, begin }) => {
    if (row.leftMs <= 0) return notMade('its age limit passed while it was queued');
    const version = await resolve(row, options);
    if (version === undefined) {
      return gone(`The function "${row.functionName}", or the version that was asked for, was deleted.`);
    }
    const result = await options.invoke(version, {
      id: row.id,
      kind: InvokeKind.EVENT,
      trigger: row.trigger,
      payload: row.payload,
      traceId: row.context.traceId ?? '',
      clientContext: row.context.clientContext ?? '',
      singleUse: false,
      arrivedAt: performance.now(),
      resolveMs: 0,
      receiveMs: 0,
      attempt: { epoch: row.epoch, alone: row.losses >= ALONE_FROM_LOSSES },
      beforeSend: begin,
      signal,
    });
    return attemptOf(result);
  };
}

/** A function that was deleted and deployed anew under the same name is another one. */
async function resolve(row: ClaimedInvocation, options: RunFunctionOptions): Promise<ResolvedVersion | undefined> {
  if (row.versionId !== null) return options.findVersion(row.projectId, row.versionId);
  try {
    const version = await options.resolve(row.projectId, row.functionName);
    return version.functionId === row.functionId ? version : undefined;
  } catch (err) {
    if (err instanceof FleetError && err.code === 'function_not_found') return undefined;
    throw err;
  }
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
