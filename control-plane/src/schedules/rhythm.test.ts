import { FleetError } from '@lambda-fleet/common/errors';
import { describe, expect, it } from 'vitest';
import { parseRhythm } from './rhythm.js';

const patternOf = (expression: string): string => {
  const rhythm = parseRhythm(expression);
  return rhythm.kind === 'cron' ? rhythm.pattern : expect.fail(`${expression} is a rate`);
};

const refusal = (expression: string): FleetError => {
  try {
    parseRhythm(expression);
  } catch (err) {
    if (err instanceof FleetError) return err;
  }
  return expect.fail(`${expression} was taken`);
};

describe('expressions', () => {
  it.each([
    ['*/5 * * * *', '0 */5 * * * * *'],
    ['  30 2  * * 1-5 ', '0 30 2 * * 1,2,3,4,5 *'],
    ['*/10 0 3 1,15 jan-mar *', '*/10 0 3 1,15 1-3 * *'],
    ['5/15 22-23 L * ?', '0 5-59/15 22-23 L * * *'],
    ['0 9 ? * mon', '0 0 9 * * 1 *'],
    ['0 9 * * 7', '0 0 9 * * 0 *'],
    ['0 9 * * FRI-SUN', '0 0 9 * * 5,6,0 *'],
    ['0 9 * * */2', '0 0 9 * * 0,2,4,6 *'],
    ['0 9 * * MON#1,FRIL', '0 0 9 * * 1#1,5#L *'],
    ['0 9 LW * *', '0 0 9 LW * * *'],
    ['0 9 1,15w * *', '0 0 9 1,15W * * *'],
    ['@Hourly', '0 0 * * * * *'],
    ['@midnight', '0 0 0 * * * *'],
    ['@weekly', '0 0 0 * * 0 *'],
    ['@annually', '0 0 0 1 1 * *'],
  ])('cron: %s', (expression, pattern) => expect(patternOf(expression)).toBe(pattern));

  it.each([
    ['cron(0 12 * * ? *)', '0 0 12 * * * *'],
    ['cron(15 10 ? * MON-FRI 2026-2028)', '0 15 10 * * 1,2,3,4,5 2026-2028'],
    ['cron(0 8 1 * ? *)', '0 0 8 1 * * *'],
    ['cron(0/5 8-17 ? * 2-6 *)', '0 0-59/5 8-17 * * 1,2,3,4,5 *'],
    ['cron(0 9 ? * 1 *)', '0 0 9 * * 0 *'],
    ['cron(0 9 ? * 7 *)', '0 0 9 * * 6 *'],
    ['cron(0 9 ? * L *)', '0 0 9 * * 6 *'],
    ['cron(0 9 ? * 6#3 *)', '0 0 9 * * 5#3 *'],
    ['cron(0 9 ? * 6L *)', '0 0 9 * * 5#L *'],
    ['cron(0 9 ? * FRI-MON *)', '0 0 9 * * 5,6,0,1 *'],
    ['cron(0 9 L * ? *)', '0 0 9 L * * *'],
    ['cron(0 9 3W * ? *)', '0 0 9 3W * * *'],
  ])("AWS's %s", (expression, pattern) => expect(patternOf(expression)).toBe(pattern));

  it.each([
    ['rate(1 minute)', 60_000],
    ['rate(5 minutes)', 300_000],
    ['rate(1 hour)', 3_600_000],
    ['Rate( 2 days )', 172_800_000],
    ['rate(1 second)', 1_000],
  ])('%s', (expression, everyMs) => expect(parseRhythm(expression)).toEqual({ kind: 'rate', everyMs }));

  it.each([
    ['', 'no fields'],
    ['* * * *', '4 fields'],
    ['* * * * * * *', '7 fields'],
    ['60 * * * *', 'minute "60" must be from 0 to 59'],
    ['* 24 * * *', 'hour "24"'],
    ['* * 0 * *', 'day-of-month "0" must be from 1 to 31'],
    ['* * 32W * *', 'day-of-month "32W"'],
    ['* * 1,LW * *', 'stand alone'],
    ['* * * 13 *', 'month "13" must be from 1 to 12, or JAN to DEC'],
    ['* * * foo *', 'month "foo"'],
    ['* * * * 8', 'day-of-week "8" must be from 0 to 7'],
    ['* * * * MON#6', '1 to 5'],
    ['61 * * * * *', 'second "61"'],
    ['*/0 * * * *', 'step'],
    ['*/60 * * * *', 'step'],
    ['5-1 * * * *', 'backwards'],
    ['1,,2 * * * *', 'not understood'],
    ['1- * * * *', 'not understood'],
    ['? * * * *', 'minute "?" is not understood'],
    ['@reboot', 'must be one of'],
    ['cron(* * * * *)', '6 fields'],
    ['cron(0 9 * * * *)', 'exactly one must be "?"'],
    ['cron(0 9 ? * ? *)', 'exactly one must be "?"'],
    ['cron(0 9 ? * 0 *)', 'day-of-week "0" must be from 1 to 7'],
    ['cron(0 9 * * ? 1969)', 'year "1969"'],
    ['rate(0 minutes)', 'from 1 second'],
    ['rate(0.5 seconds)', 'whole number'],
    ['rate(500 milliseconds)', 'unit'],
    ['rate(367 days)', '366 days'],
    ['rate(5)', 'unit'],
    ['every minute', '2 fields'],
    ['*\0 * * * *', 'not understood'],
    ['9'.repeat(300), 'longer'],
  ])('refuses %j and says what is wrong with it', (expression, why) => {
    const { code, message, details } = refusal(expression);
    expect({ code, details }).toEqual({ code: 'invalid_request', details: { field: 'expression' } });
    expect(message).toContain(why);
  });
});
