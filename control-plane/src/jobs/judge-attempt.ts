import { isUtf8 } from 'node:buffer';
import type { ExecutionError, ExecutionReceipt } from '../db/schema.js';
import { storableText } from '../db/storable-text.js';
import type { OutcomeName } from '../invocations/invocation.js';
import type { AttemptRecord, JobEnding } from './job-progress.js';

/** How an attempt ended. */
export interface AttemptEnd {
  readonly outcome: OutcomeName;
  /** Nothing of it can be running any more. */
  readonly over: boolean;
  readonly error: ExecutionError | null;
  /** The platform's words, where it has an end without an error of the code's own. */
  readonly reason: string | undefined;
  /** The result's bytes; undefined when it was not kept on its way here. */
  readonly body: Buffer | undefined;
  readonly receipt: ExecutionReceipt | null;
  /** How long it took, milliseconds. */
  readonly tookMs: number;
}

/** What is known of a job when an attempt ends. */
export interface JobSoFar {
  readonly retries: number;
  /** With this one, if it began. */
  readonly attempts: number;
  readonly ageMs: number;
  /** How often it has not started in a row before. */
  readonly deferrals: number;
}

export type Verdict =
  | { readonly kind: 'finish'; readonly ending: JobEnding }
  /** It ran, and is to run again. */
  | { readonly kind: 'retry'; readonly record: AttemptRecord; readonly delayMs: number; readonly reason: string }
  /** It did not start. */
  | { readonly kind: 'defer'; readonly delayMs: number; readonly reason: string }
  /** It may be running still: nothing may be concluded yet. */
  | { readonly kind: 'wait' };

/** A result up to this size is kept whole, a longer one not at all: half a JSON text is none. */
export const RESULT_KEPT_BYTES_MAX = 1024 * 1024;

/** A job that nothing could start for so long fails. */
const NOT_STARTED_AGE_MAX_MS = 6 * 3_600_000;

const RETRY_FIRST_MS = 500;
const DEFER_FIRST_MS = 1_000;
const DEFER_CAP_MS = 30_000;

/** What the end of an attempt means for its job. Pure. */
export function judgeAttempt(job: JobSoFar, end: AttemptEnd): Verdict {
  const { outcome, receipt } = end;
  switch (outcome) {
    case 'success':
      return finish(readResult(end));
    case 'throttled':
    case 'not_started':
      return job.ageMs > NOT_STARTED_AGE_MAX_MS ? finish(neverStarted(end)) : defer(job, end);
    case 'outcome_unknown':
      if (!end.over) return { kind: 'wait' };
  }
  const error = end.error ?? {
    errorType: 'Job.OutcomeUnknown',
    errorMessage: end.reason ?? 'Nobody knows how it ended.',
  };
  // The same text does not parse the next time either.
  const hopeless = error.errorType === 'Runtime.UserCodeSyntaxError';
  if (hopeless || job.attempts > job.retries) {
    const status = outcome === 'timeout' ? 'timed_out' : 'failed';
    return finish({ status, outcome, error, receipt, result: null, resultBytes: null });
  }
  const delayMs = RETRY_FIRST_MS * 2 ** (job.attempts - 1);
  const left = job.retries + 1 - job.attempts;
  const reason = `Attempt ${job.attempts} ended as ${outcome}; ${left} more ${left === 1 ? 'is' : 'are'} allowed.`;
  return { kind: 'retry', record: { outcome, error, receipt }, delayMs, reason };
}

function finish(ending: JobEnding): Verdict {
  return { kind: 'finish', ending };
}

/** One that waited long for a node has waited enough; one that was turned away at once would ask all the time. */
function defer({ deferrals }: JobSoFar, { tookMs, reason }: AttemptEnd): Verdict {
  const bound = Math.min(DEFER_CAP_MS, DEFER_FIRST_MS * 2 ** Math.min(deferrals, 16));
  return { kind: 'defer', delayMs: Math.max(0, bound - tookMs), reason: reason ?? 'No node could take it.' };
}

function neverStarted({ reason, receipt }: AttemptEnd): JobEnding {
  const errorMessage = `No node could take it for ${NOT_STARTED_AGE_MAX_MS / 3_600_000} hours: ${reason ?? 'none had room'}`;
  const error = { errorType: 'Job.NotStarted', errorMessage };
  return { status: 'failed', outcome: 'not_started', error, receipt, result: null, resultBytes: null };
}

/** Frames come from a sandbox: that what was returned is JSON is the runtime's promise, which may be forged. */
function readResult({ body, receipt }: AttemptEnd): JobEnding {
  const succeeded = (result: string | null, resultBytes: number | null): JobEnding => {
    return { status: 'succeeded', outcome: 'success', error: null, receipt, result, resultBytes };
  };
  if (body === undefined) return succeeded(null, null);
  if (body.length > RESULT_KEPT_BYTES_MAX) return succeeded(null, body.length);
  const text = isUtf8(body) ? body.toString('utf8') : undefined;
  if (text !== undefined && isJson(text)) return succeeded(storableText(text), body.length);
  const error = { errorType: 'Runtime.InvalidResult', errorMessage: 'What came back as the result is not JSON.' };
  return { status: 'failed', outcome: 'function_error', error, receipt, result: null, resultBytes: body.length };
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
