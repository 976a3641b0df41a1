import { isUtf8 } from 'node:buffer';
import type { AttemptEnd } from '../async/async-invocation.js';
import type { Verdict } from '../async/judge-attempt.js';
import { storableText } from '../db/storable-text.js';
import type { JobStatus } from './job.js';

/** What a job's row is told when it has ended, besides what its last attempt says. */
export interface JobEnd {
  readonly status: Extract<JobStatus, 'succeeded' | 'failed' | 'timed_out' | 'cancelled'>;
  /** Those that its code answers for, and this one. */
  readonly attempts: number;
  /** JSON text. */
  readonly result: string | null;
  readonly resultBytes: number | null;
  /** Any of its code may have run: there is an execution. */
  readonly executed: boolean;
}

/** A result up to this size is kept whole, a longer one not at all: half a JSON text is none. */
export const RESULT_KEPT_BYTES_MAX = 1024 * 1024;

/**
 * The end of a job's attempt, of which a success without a JSON text is none: frames come from a sandbox, so that what was
 * returned is JSON is the runtime's promise, which may be forged.
 *
 * @param body undefined when it was not kept on its way here
 */
export function checkedEnd(end: AttemptEnd, body: Buffer | undefined): AttemptEnd {
  if (end.outcome !== 'success' || body === undefined || body.length > RESULT_KEPT_BYTES_MAX || isJson(body))
    return end;
  const error = { errorType: 'Runtime.InvalidResult', errorMessage: 'What came back as the result is not JSON.' };
  return { ...end, outcome: 'function_error', error };
}

/** @param before the attempts that its code answered for before this one */
export function jobEnd(before: number, verdict: Verdict, { outcome }: AttemptEnd, body: Buffer | undefined): JobEnd {
  const ran = outcome !== 'not_started' && outcome !== 'throttled';
  const { attempts, losses } = verdict;
  const counts = {
    attempts: ran && attempts === before ? attempts + 1 : attempts,
    executed: ran || attempts + losses > 0,
  };
  if (verdict.kind === 'succeeded') {
    const kept = body !== undefined && body.length <= RESULT_KEPT_BYTES_MAX;
    const result = kept ? storableText(body.toString('utf8')) : null;
    return { ...counts, status: 'succeeded', result, resultBytes: body?.length ?? null };
  }
  const failed = outcome === 'timeout' ? 'timed_out' : 'failed';
  const status = verdict.kind === 'cancelled' ? 'cancelled' : failed;
  return { ...counts, status, result: null, resultBytes: null };
}

function isJson(body: Buffer): boolean {
  if (!isUtf8(body)) return false;
  try {
    JSON.parse(body.toString('utf8'));
    return true;
  } catch {
    return false;
  }
}
