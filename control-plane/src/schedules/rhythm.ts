import {
  AWS_WEEKDAY,
  CRON_WEEKDAY,
  HOUR,
  MINUTE,
  MONTH,
  parseDayOfMonth,
  parseField,
  parseWeekdays,
  SECOND,
  wrongExpression,
  YEAR,
} from './cron-field.js';

/** What an expression says, in one of two forms. */
export type Rhythm =
  | { readonly kind: 'rate'; readonly everyMs: number }
  /** Seven fields from second to year, in the syntax of the library that evaluates them. */
  | { readonly kind: 'cron'; readonly pattern: string };

const EXPRESSION_LENGTH_MAX = 256;

const NICKNAMES: Readonly<Record<string, string>> = {
  '@yearly': '0 0 1 1 *',
  '@annually': '0 0 1 1 *',
  '@monthly': '0 0 1 * *',
  '@weekly': '0 0 * * 0',
  '@daily': '0 0 * * *',
  '@midnight': '0 0 * * *',
  '@hourly': '0 * * * *',
};

const RATE_UNITS_MS: Readonly<Record<string, number>> = {
  second: 1_000,
  minute: 60_000,
  hour: 3_600_000,
  day: 86_400_000,
};
const RATE_MAX_MS = 366 * 86_400_000;

/** Without spaces that say nothing. */
export function tidyExpression(text: string): string {
  return text.trim().replaceAll(/\s+/g, ' ');
}

/**
 * `*\/5 * * * *`, with seconds `0 *\/5 * * * *`, `@daily`, and AWS's `rate(5 minutes)` and `cron(0 12 * * ? *)`.
 *
 * @throws FleetError `invalid_request` that says which part is wrong, with the field `expression`
 */
export function parseRhythm(expression: string): Rhythm {
  const text = tidyExpression(expression);
  if (text.length > EXPRESSION_LENGTH_MAX)
    throw wrongExpression(`it is longer than ${EXPRESSION_LENGTH_MAX} characters`);
  const call = /^(rate|cron) ?\((.*)\)$/i.exec(text);
  if (call?.[1]?.toLowerCase() === 'rate') return parseRate((call[2] ?? '').trim());
  if (call !== null) return { kind: 'cron', pattern: awsPattern((call[2] ?? '').trim()) };
  if (!text.startsWith('@')) return { kind: 'cron', pattern: cronPattern(text) };
  const fields = NICKNAMES[text.toLowerCase()];
  if (fields === undefined) throw wrongExpression(`"${text}" must be one of ${Object.keys(NICKNAMES).join(', ')}`);
  return { kind: 'cron', pattern: cronPattern(fields) };
}

function parseRate(text: string): Rhythm {
  const [, count, unit] = /^(\d{1,9}) (second|minute|hour|day)s?$/i.exec(text) ?? [];
  const everyMs = Number(count) * (RATE_UNITS_MS[unit?.toLowerCase() ?? ''] ?? Number.NaN);
  if (everyMs >= 1_000 && everyMs <= RATE_MAX_MS) return { kind: 'rate', everyMs };
  throw wrongExpression(
    `"rate(${text})" must have a whole number and a unit, such as rate(5 minutes), from 1 second to 366 days`,
  );
}

function cronPattern(text: string): string {
  const fields = text.split(' ');
  if (fields.length !== 5 && fields.length !== 6) {
    throw wrongExpression(
      `it has ${text === '' ? 'no' : fields.length} fields and must have 5 (minute hour day-of-month month day-of-week), or 6 with the second first; AWS's form is cron(…)`,
    );
  }
  const [second = '', minute = '', hour = '', dayOfMonth = '', month = '', weekday = ''] =
    fields.length === 6 ? fields : ['0', ...fields];
  return [
    parseField(second, SECOND),
    parseField(minute, MINUTE),
    parseField(hour, HOUR),
    parseDayOfMonth(dayOfMonth === '?' ? '*' : dayOfMonth),
    parseField(month, MONTH),
    parseWeekdays(weekday === '?' ? '*' : weekday, CRON_WEEKDAY),
    '*',
  ].join(' ');
}

function awsPattern(text: string): string {
  const fields = text.split(' ');
  if (fields.length !== 6) {
    throw wrongExpression('cron(…) must have 6 fields: minute hour day-of-month month day-of-week year');
  }
  const [minute = '', hour = '', dayOfMonth = '', month = '', weekday = '', year = ''] = fields;
  if ((dayOfMonth === '?') === (weekday === '?')) {
    throw wrongExpression('of day-of-month and day-of-week in cron(…) exactly one must be "?"');
  }
  return [
    '0',
    parseField(minute, MINUTE),
    parseField(hour, HOUR),
    dayOfMonth === '?' ? '*' : parseDayOfMonth(dayOfMonth),
    parseField(month, MONTH),
    weekday === '?' ? '*' : parseWeekdays(weekday, AWS_WEEKDAY),
    parseField(year, YEAR),
  ].join(' ');
}
