import { describe, expect, it } from 'vitest';
import type { AttemptEnd } from '../async/async-invocation.js';
import { judgeAttempt, type SoFar } from '../async/judge-attempt.js';
import { checkedEnd, type JobEnd, jobEnd, RESULT_KEPT_BYTES_MAX } from './job-end.js';

const HOUR_MS = 3_600_000;
const fresh: SoFar = {
  ...{ attempts: 0, losses: 0, deferrals: 0, leftMs: HOUR_MS, retries: 0, retryDelaysMs: [500], cancelled: false },
};
const ended = (changes: Partial<AttemptEnd> = {}): AttemptEnd => ({
  ...{ outcome: 'success', over: true, lost: false, error: null, reason: undefined, receipt: null },
  ...changes,
});
const endOf = (end: AttemptEnd, soFar: Partial<SoFar> = {}, body?: Buffer): JobEnd => {
  const before = { ...fresh, ...soFar };
  return jobEnd(before.attempts, judgeAttempt(before, end), end, body);
};

describe('the end of a job', () => {
  it.each<[string, AttemptEnd, Partial<SoFar>, Partial<JobEnd>]>([
    ['succeeded', ended(), {}, { status: 'succeeded', attempts: 1, executed: true }],
    ['threw', ended({ outcome: 'function_error' }), {}, { status: 'failed', attempts: 1, executed: true }],
    ['ran out of time', ended({ outcome: 'timeout' }), { attempts: 2 }, { status: 'timed_out', attempts: 3 }],
    [
      'lost its third node',
      ended({ outcome: 'outcome_unknown', lost: true }),
      { losses: 2 },
      { status: 'failed', attempts: 1, executed: true },
    ],
    [
      'never found a node',
      ended({ outcome: 'not_started' }),
      { leftMs: 0 },
      { status: 'failed', attempts: 0, executed: false },
    ],
    [
      'found none any more after an attempt',
      ended({ outcome: 'not_started' }),
      { leftMs: 0, attempts: 1 },
      { status: 'failed', attempts: 1, executed: true },
    ],
    [
      'was cancelled while it ran',
      ended({ outcome: 'outcome_unknown' }),
      { cancelled: true },
      { status: 'cancelled', attempts: 1, executed: true },
    ],
    [
      'was cancelled before it was sent',
      ended({ outcome: 'not_started' }),
      { cancelled: true },
      { status: 'cancelled', attempts: 0, executed: false },
    ],
    ['succeeded all the same', ended(), { cancelled: true }, { status: 'succeeded', attempts: 1 }],
  ])('of one that %s says so', (_what, end, soFar, expected) => {
    expect(endOf(end, soFar)).toMatchObject(expected);
  });

  it('keeps a result as it is, or not at all', () => {
    const of = (body: Buffer | undefined) => {
      expect(checkedEnd(ended(), body)).toEqual(ended());
      return endOf(ended(), {}, body);
    };
    const exact = '{"big":12345678901234567890, "__proto__": {"x":1}, "s":"\\ud800\\u0000"}';
    expect(of(Buffer.from(exact))).toMatchObject({ status: 'succeeded', result: exact });
    const deep = `${'['.repeat(100_000)}${']'.repeat(100_000)}`;
    expect(of(Buffer.from(deep))).toMatchObject({ status: 'succeeded', result: deep });
    const most = Buffer.from(`"${'x'.repeat(RESULT_KEPT_BYTES_MAX - 2)}"`);
    expect(of(most)).toMatchObject({ result: most.toString() });
    const more = Buffer.from(`"${'x'.repeat(RESULT_KEPT_BYTES_MAX - 1)}"`);
    expect(of(more)).toMatchObject({ status: 'succeeded', result: null, resultBytes: more.length });
    expect(of(undefined)).toMatchObject({ status: 'succeeded', result: null, resultBytes: null });
  });

  it.each([
    ['not JSON', '{'],
    ['nothing', ''],
    ['a raw NUL', '"\0"'],
    ['bytes that are no text', Buffer.from([0x22, 0xff, 0x22])],
  ])('does not take %s for a result, nor for one that comes the next time', (_what, body) => {
    const end = checkedEnd(ended(), Buffer.from(body));
    expect(end).toMatchObject({ outcome: 'function_error', error: { errorType: 'Runtime.InvalidResult' } });
    expect(judgeAttempt({ ...fresh, retries: 2 }, end).kind).toBe('dead');
  });
});
