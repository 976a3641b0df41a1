import type { ExecutionError } from '../db/schema.js';
import type { AttemptEnd, DeadLetterCondition } from './async-invocation.js';

/** What is known of an async invocation when an attempt of it ends. */
export interface SoFar {
  /** Those that its function answered for before this one. */
  readonly attempts: number;
  readonly losses: number;
  readonly deferrals: number;
  /** Milliseconds until it is too old to be begun. */
  readonly leftMs: number;
  readonly retries: number | null;
  readonly retryDelaysMs: readonly number[] | null;
  readonly cancelled: boolean;
}

interface Counts {
  readonly attempts: number;
  readonly losses: number;
  readonly deferrals: number;
}

export type Verdict = Counts &
  (
    | { readonly kind: 'succeeded' }
    | { readonly kind: 'cancelled' }
    | { readonly kind: 'dead'; readonly condition: DeadLetterCondition; readonly error: ExecutionError }
    | { readonly kind: 'again'; readonly delayMs: number; readonly reason: string }
    /** It may be running still: nothing may be concluded yet. */
    | { readonly kind: 'wait' }
  );

/** An invocation that took so many nodes down with it is not given another. */
const LOSSES_MAX = 3;

/** What the runtime could not read, the code or the event, reads no better the next time; what is not JSON will not become it. */
const HOPELESS: readonly string[] = ['Runtime.InvalidEvent', 'Runtime.UserCodeSyntaxError', 'Runtime.InvalidResult'];

const DEFER_FIRST_MS = 1_000;
const DEFER_CAP_MS = 5 * 60_000;

/**
 * What the end of an attempt means for its invocation. Pure.
 *
 * Only what the function did itself counts as an attempt. What the platform did (no room, a node that drains or is lost, a
 * fault of ours) is tried again until the invocation is too old, or has lost too many nodes.
 */
export function judgeAttempt(soFar: SoFar, end: AttemptEnd): Verdict {
  const { outcome } = end;
  if (outcome === 'outcome_unknown' && !end.over) return { kind: 'wait', ...countsOf(soFar) };
  if (outcome === 'success') return { kind: 'succeeded', ...countsOf(soFar), attempts: soFar.attempts + 1 };
  if (end.lost) return lost(soFar, end);
  if (end.gone) {
    const error = {
      errorType: 'Invocation.FunctionGone',
      errorMessage: end.reason ?? 'There is no such function any more.',
    };
    return { kind: 'dead', ...countsOf(soFar), condition: 'FunctionGone', error };
  }
  const own = (outcome === 'function_error' || outcome === 'timeout') && end.receipt?.fault !== 'platform';
  if (own) return failed(soFar, end);
  if (soFar.cancelled) return { kind: 'cancelled', ...countsOf(soFar) };
  const reason = end.reason ?? 'No node could take it.';
  const delayMs = deferral(soFar.deferrals);
  const counts = { ...countsOf(soFar), deferrals: soFar.deferrals + 1 };
  if (soFar.leftMs <= delayMs) return { ...counts, ...tooOld(end) };
  return { kind: 'again', ...counts, delayMs, reason };
}

/** 1 s, 2 s, 4 s … 5 min. */
function deferral(deferrals: number): number {
  return Math.min(DEFER_CAP_MS, DEFER_FIRST_MS * 2 ** Math.min(deferrals, 16));
}

function lost(soFar: SoFar, end: AttemptEnd): Verdict {
  const counts = { ...countsOf(soFar), losses: soFar.losses + 1 };
  if (soFar.cancelled) return { kind: 'cancelled', ...counts };
  if (counts.losses >= LOSSES_MAX) {
    const errorMessage = `${counts.losses} nodes were lost while it ran: ${end.reason ?? ''}`;
    return {
      kind: 'dead',
      ...counts,
      condition: 'NodesLost',
      error: { errorType: 'Invocation.NodesLost', errorMessage },
    };
  }
  if (soFar.leftMs <= 0) return { ...counts, ...tooOld(end) };
  return { kind: 'again', ...counts, delayMs: 0, reason: end.reason ?? 'Its node was lost.' };
}

function failed(soFar: SoFar, end: AttemptEnd): Verdict {
  const counts = { ...countsOf(soFar), attempts: soFar.attempts + 1, deferrals: 0 };
  if (soFar.cancelled) return { kind: 'cancelled', ...counts };
  const { retryDelaysMs } = soFar;
  const error = end.error ?? { errorType: 'Invocation.Failed', errorMessage: end.reason ?? end.outcome };
  const retries = HOPELESS.includes(error.errorType) ? 0 : (soFar.retries ?? 0);
  if (counts.attempts > retries) return { kind: 'dead', ...counts, condition: 'RetriesExhausted', error };
  const delayMs = retryDelaysMs?.[Math.min(counts.attempts, retryDelaysMs.length) - 1] ?? DEFER_FIRST_MS;
  if (soFar.leftMs <= delayMs) return { kind: 'dead', ...counts, condition: 'EventAgeExceeded', error };
  const left = retries + 1 - counts.attempts;
  const reason = `Attempt ${counts.attempts} ended as ${end.outcome}; ${left} more ${left === 1 ? 'is' : 'are'} allowed.`;
  return { kind: 'again', ...counts, delayMs, reason };
}

function tooOld(end: AttemptEnd) {
  const errorMessage = `It could not be run before it was too old: ${end.reason ?? 'no node could take it'}`;
  return {
    kind: 'dead',
    condition: 'EventAgeExceeded',
    error: end.error ?? { errorType: 'Invocation.EventAgeExceeded', errorMessage },
  } as const;
}

function countsOf({ attempts, losses, deferrals }: SoFar): Counts {
  return { attempts, losses, deferrals };
}
