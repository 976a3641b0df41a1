import { describe, expect, it } from 'vitest';
import type { AttemptEnd } from './async-invocation.js';
import { judgeAttempt, type SoFar, type Verdict } from './judge-attempt.js';

const fresh: SoFar = {
  ...{ attempts: 0, losses: 0, deferrals: 0, leftMs: 3_600_000, cancelled: false },
  ...{ retries: 2, retryDelaysMs: [60_000, 120_000] },
};
const end = (changes: Partial<AttemptEnd> = {}): AttemptEnd => ({
  ...{ outcome: 'success', over: true, lost: false, error: null, reason: undefined, receipt: null },
  ...changes,
});
const thrown = (errorType = 'Error') => end({ outcome: 'function_error', error: { errorType, errorMessage: 'x' } });
const nothingRan = end({ outcome: 'not_started', reason: 'no room' });
const nodeLost = end({ outcome: 'outcome_unknown', lost: true, reason: 'gone' });

describe('what the end of an attempt means', () => {
  it.each<[string, Partial<SoFar>, AttemptEnd, Partial<Verdict> & Record<string, unknown>]>([
    ['a success', { attempts: 1 }, end(), { kind: 'succeeded', attempts: 2 }],
    ['a success that was to be cancelled', { cancelled: true }, end(), { kind: 'succeeded', attempts: 1 }],
    [
      'an end that nobody knows yet',
      {},
      end({ outcome: 'outcome_unknown', over: false }),
      { kind: 'wait', attempts: 0 },
    ],

    ['the first failure', {}, thrown(), { kind: 'again', attempts: 1, delayMs: 60_000 }],
    ['the second', { attempts: 1 }, thrown(), { kind: 'again', attempts: 2, delayMs: 120_000 }],
    ['one more than delays are set', { attempts: 2, retries: 5 }, thrown(), { kind: 'again', delayMs: 120_000 }],
    ['the last', { attempts: 2 }, thrown(), { kind: 'dead', condition: 'RetriesExhausted', attempts: 3 }],
    ['one of a function that is gone', { retries: null, retryDelaysMs: null }, thrown(), { kind: 'dead', attempts: 1 }],
    ['no time', {}, end({ outcome: 'timeout' }), { kind: 'again', attempts: 1, delayMs: 60_000 }],
    ['one after deferrals', { deferrals: 9 }, thrown(), { kind: 'again', deferrals: 0 }],
    ['one that was to be cancelled', { cancelled: true }, thrown(), { kind: 'cancelled', attempts: 1 }],
    [
      'one with no time left for another',
      { leftMs: 60_000 },
      thrown(),
      { kind: 'dead', condition: 'EventAgeExceeded' },
    ],
    ...['Runtime.InvalidEvent', 'Runtime.UserCodeSyntaxError', 'Runtime.InvalidResult'].map(
      (type): [string, Partial<SoFar>, AttemptEnd, Record<string, unknown>] => [
        type,
        {},
        thrown(type),
        { kind: 'dead', condition: 'RetriesExhausted', attempts: 1 },
      ],
    ),

    ['no room', {}, nothingRan, { kind: 'again', attempts: 0, deferrals: 1, delayMs: 1_000, reason: 'no room' }],
    ['no room again', { deferrals: 3 }, nothingRan, { kind: 'again', deferrals: 4, delayMs: 8_000 }],
    ['no room for long', { deferrals: 90 }, nothingRan, { kind: 'again', delayMs: 300_000 }],
    ['too many calls', {}, end({ outcome: 'throttled' }), { kind: 'again', attempts: 0, deferrals: 1 }],
    ['no room until it is too old', { leftMs: 900 }, nothingRan, { kind: 'dead', condition: 'EventAgeExceeded' }],
    ['no room for what is cancelled', { cancelled: true }, nothingRan, { kind: 'cancelled', attempts: 0 }],
    [
      'a failure of the platform',
      { retries: 0 },
      { ...thrown(), receipt: { fault: 'platform' } },
      { kind: 'again', attempts: 0, deferrals: 1 },
    ],
    ['nothing left to run', {}, end({ ...nothingRan, gone: true }), { kind: 'dead', condition: 'FunctionGone' }],

    ['a lost node', { retries: 0 }, nodeLost, { kind: 'again', attempts: 0, losses: 1, delayMs: 0, reason: 'gone' }],
    ['the third', { losses: 2 }, nodeLost, { kind: 'dead', condition: 'NodesLost', losses: 3 }],
    ['one that came too late', { leftMs: 0 }, nodeLost, { kind: 'dead', condition: 'EventAgeExceeded', losses: 1 }],
    ['one of what is cancelled', { losses: 2, cancelled: true }, nodeLost, { kind: 'cancelled', losses: 3 }],
  ])('%s', (_what, changes, attempt, verdict) => {
    expect(judgeAttempt({ ...fresh, ...changes }, attempt)).toMatchObject(verdict);
  });

  it('says with how many attempts to come it is queued again', () => {
    const { reason } = judgeAttempt({ ...fresh, attempts: 1 }, thrown()) as Verdict & { reason: string };
    expect(reason).toBe('Attempt 2 ended as function_error; 1 more is allowed.');
  });
});
