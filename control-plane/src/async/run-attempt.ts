import { errorText, FleetError } from '@lambda-fleet/common/errors';
import type { SentTo } from '../invocations/invocation.js';
import type { AttemptEnd, ClaimedInvocation } from './async-invocation.js';
import type { AttemptMade } from './attempt-settler.js';

/** One attempt, made. */
export interface Attempt {
  readonly end: AttemptEnd;
  readonly made: AttemptMade;
  /** Tells the node that its result is committed. */
  readonly acknowledge?: () => void;
}

export interface AttemptContext {
  readonly signal: AbortSignal;
  /** To be awaited before it is sent to a node; false when it must not be. Never rejects. */
  readonly begin: (sentTo: SentTo) => Promise<boolean>;
}

/** Makes one attempt. What it throws was not sent anywhere. */
export type AttemptRunner = (row: ClaimedInvocation, context: AttemptContext) => Promise<Attempt>;

/** Of something that was not sent anywhere. */
export function notMade(reason: string): Attempt {
  const end = { outcome: 'not_started', over: true, lost: false, error: null, reason, receipt: null } as const;
  return { end, made: nothingMade() };
}

/** Of something that could not be run any more whenever it was tried. */
export function gone(reason: string): Attempt {
  const attempt = notMade(reason);
  return { ...attempt, end: { ...attempt.end, gone: true } };
}

/** @param err what a runner threw */
export function faulted(err: unknown): Attempt {
  const known = err instanceof FleetError;
  return notMade(known ? errorText(err) : 'The control plane has a fault; its log has the detail.');
}

export function nothingMade(): AttemptMade {
  const now = Date.now();
  return {
    ...{ versionId: undefined, versionNumber: 0, nodeId: undefined, statusCode: undefined, body: undefined },
    ...{ startedAtMs: now, finishedAtMs: now },
  };
}
