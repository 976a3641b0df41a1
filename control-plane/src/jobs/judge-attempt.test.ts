import { describe, expect, it } from 'vitest';
import { type AttemptEnd, type JobSoFar, judgeAttempt, RESULT_KEPT_BYTES_MAX } from './judge-attempt.js';

const job = (changes: Partial<JobSoFar> = {}): JobSoFar => ({
  ...{ retries: 0, attempts: 1, ageMs: 1_000, deferrals: 0 },
  ...changes,
});
const end = (changes: Partial<AttemptEnd>): AttemptEnd => ({
  ...{
    outcome: 'success',
    over: true,
    error: null,
    reason: undefined,
    body: Buffer.from('1'),
    receipt: null,
    tookMs: 5,
  },
  ...changes,
});
const error = { errorType: 'Error', errorMessage: 'no' };
const HOUR_MS = 3_600_000;

describe('judgeAttempt', () => {
  it.each([
    ['success', end({}), 'succeeded'],
    ['an error', end({ outcome: 'function_error', error }), 'failed'],
    ['a timeout', end({ outcome: 'timeout', error }), 'timed_out'],
    ['an end that nobody knows', end({ outcome: 'outcome_unknown', reason: 'lost' }), 'failed'],
  ])('%s without retries finishes the job', (_what, ended, status) => {
    expect(judgeAttempt(job(), ended)).toMatchObject({
      kind: 'finish',
      ending: { status, outcome: ended.outcome, result: ended.outcome === 'success' ? '1' : null },
    });
  });

  it.each(['function_error', 'timeout', 'outcome_unknown'] as const)(
    'retries %s as often as allowed, after longer and longer pauses',
    (outcome) => {
      const verdicts = [1, 2, 3].map((attempts) =>
        judgeAttempt(job({ retries: 2, attempts }), end({ outcome, error, body: undefined })),
      );
      expect(verdicts).toMatchObject([
        { kind: 'retry', delayMs: 500, record: { outcome, error } },
        { kind: 'retry', delayMs: 1_000, reason: expect.stringContaining('1 more is allowed') },
        { kind: 'finish', ending: { outcome, error } },
      ]);
    },
  );

  it('does not retry code that does not parse', () => {
    const syntax = {
      errorType: 'Runtime.UserCodeSyntaxError',
      errorMessage: 'x',
      location: { file: 'job.js', line: 1, column: 2 },
    };
    expect(judgeAttempt(job({ retries: 5 }), end({ outcome: 'function_error', error: syntax }))).toMatchObject({
      kind: 'finish',
      ending: { status: 'failed', error: syntax },
    });
  });

  it('concludes nothing from a lost link: it may be running still', () => {
    expect(judgeAttempt(job({ retries: 5 }), end({ outcome: 'outcome_unknown', over: false }))).toEqual({
      kind: 'wait',
    });
  });

  it('asks at once again for what waited long for a node, and later and later for what is turned away at once', () => {
    const delay = (deferrals: number, tookMs: number) =>
      judgeAttempt(job({ deferrals }), end({ outcome: 'not_started', tookMs, reason: 'why' }));
    expect(delay(0, 10_000)).toEqual({ kind: 'defer', delayMs: 0, reason: 'why' });
    expect([0, 1, 4, 5, 1e9].map((n) => delay(n, 0))).toMatchObject(
      [1_000, 2_000, 16_000, 30_000, 30_000].map((delayMs) => ({ delayMs })),
    );
    expect(judgeAttempt(job({ retries: 0, attempts: 0 }), end({ outcome: 'throttled' })).kind).toBe('defer');
  });

  it('gives a job up that nothing could start for hours', () => {
    const ended = end({ outcome: 'not_started', reason: 'No connected node offers the runtime python3.11.' });
    expect(judgeAttempt(job({ ageMs: 7 * HOUR_MS }), ended)).toMatchObject({
      kind: 'finish',
      ending: {
        status: 'failed',
        outcome: 'not_started',
        error: { errorType: 'Job.NotStarted', errorMessage: expect.stringContaining('python3.11') },
      },
    });
  });

  it('keeps a result as it is, or not at all', () => {
    const ending = (body: Buffer | undefined) => judgeAttempt(job(), end({ body }));
    const exact = '{"big":12345678901234567890, "__proto__": {"x":1}, "s":"\\ud800\\u0000"}';
    expect(ending(Buffer.from(exact))).toMatchObject({ ending: { status: 'succeeded', result: exact } });
    const deep = `${'['.repeat(100_000)}${']'.repeat(100_000)}`;
    expect(ending(Buffer.from(deep))).toMatchObject({ ending: { status: 'succeeded', result: deep } });
    const most = Buffer.from(`"${'x'.repeat(RESULT_KEPT_BYTES_MAX - 2)}"`);
    expect(ending(most)).toMatchObject({ ending: { result: most.toString() } });
    const more = Buffer.from(`"${'x'.repeat(RESULT_KEPT_BYTES_MAX - 1)}"`);
    expect(ending(more)).toMatchObject({ ending: { status: 'succeeded', result: null, resultBytes: more.length } });
    expect(ending(undefined)).toMatchObject({ ending: { status: 'succeeded', result: null, resultBytes: null } });
  });

  it.each([
    ['not JSON', '{'],
    ['nothing', ''],
    ['a raw NUL', '"\0"'],
    ['bytes that are no text', Buffer.from([0x22, 0xff, 0x22])],
  ])('does not take %s for a result', (_what, body) => {
    expect(judgeAttempt(job(), end({ body: Buffer.from(body) }))).toMatchObject({
      ending: { status: 'failed', outcome: 'function_error', error: { errorType: 'Runtime.InvalidResult' } },
    });
  });
});
