import { FleetError } from '@lambda-fleet/common/errors';

/** One field of a cron expression: `*`, `a`, `a-b`, each with `/n`, and lists of these. */
export interface CronField {
  readonly name: string;
  readonly min: number;
  readonly max: number;
  /** Names of the values from `min` on, in upper case. */
  readonly names?: readonly string[];
}

const MONTH_NAMES = ['JAN', 'FEB', 'MAR', 'APR', 'MAY', 'JUN', 'JUL', 'AUG', 'SEP', 'OCT', 'NOV', 'DEC'];
const WEEKDAY_NAMES = ['SUN', 'MON', 'TUE', 'WED', 'THU', 'FRI', 'SAT'];

export const SECOND: CronField = { name: 'second', min: 0, max: 59 };
export const MINUTE: CronField = { name: 'minute', min: 0, max: 59 };
export const HOUR: CronField = { name: 'hour', min: 0, max: 23 };
const DAY_OF_MONTH: CronField = { name: 'day-of-month', min: 1, max: 31 };
export const MONTH: CronField = { name: 'month', min: 1, max: 12, names: MONTH_NAMES };
export const YEAR: CronField = { name: 'year', min: 1970, max: 2199 };
/** 0 and 7 are Sunday. */
export const CRON_WEEKDAY: CronField = { name: 'day-of-week', min: 0, max: 7, names: WEEKDAY_NAMES };
/** 1 is Sunday. */
export const AWS_WEEKDAY: CronField = { name: 'day-of-week', min: 1, max: 7, names: WEEKDAY_NAMES };

/** What is wrong with an expression, for its author. */
export function wrongExpression(why: string): FleetError {
  return new FleetError('invalid_request', `expression is not one that can be used: ${why}.`, { field: 'expression' });
}

/**
 * The field with numbers for names. It keeps its form, because whether a field has a `*` or a step decides what happens
 * at changes of the clock.
 *
 * @throws FleetError `invalid_request`
 */
export function parseField(text: string, field: CronField): string {
  return text
    .split(',')
    .map((part) => {
      const { from, to, step } = parsePart(part, field);
      if (from === undefined) return step === 1 ? '*' : `*/${step}`;
      if (to < from) throw wrongExpression(`the ${field.name} "${part}" runs backwards`);
      if (from === to) return String(from);
      return step === 1 ? `${from}-${to}` : `${from}-${to}/${step}`;
    })
    .join(',');
}

/**
 * `L`, `LW`, `15W` and what {@link parseField} takes.
 *
 * @throws FleetError `invalid_request`
 */
export function parseDayOfMonth(text: string): string {
  const parts = text.toUpperCase().split(',');
  if (parts.includes('LW') && parts.length > 1) throw wrongExpression('the day-of-month "LW" has to stand alone');
  return parts
    .map((part) => {
      if (part === 'L' || part === 'LW') return part;
      const nearest = /^(\d{1,2})W$/.exec(part)?.[1];
      return nearest === undefined ? parseField(part, DAY_OF_MONTH) : `${readValue(nearest, DAY_OF_MONTH, part)}W`;
    })
    .join(',');
}

/**
 * `MON#2`, `FRIL` or `FRI#L`, ranges over the end of the week, and what {@link parseField} takes. Days are 0 (Sunday)
 * to 6 in what comes back, whatever they were.
 *
 * @throws FleetError `invalid_request`
 */
export function parseWeekdays(text: string, field: CronField): string {
  if (text === '*') return text;
  const day = (value: number): number => (value - (field.min === 1 ? 1 : 0)) % 7;
  const days = text
    .toUpperCase()
    .split(',')
    .flatMap((part): (string | number)[] => {
      // AWS: the last day of the week.
      if (part === 'L' && field.min === 1) return [6];
      const nth = /^(\w+)#([1-5]|L)$/.exec(part) ?? /^(\d|[A-Z]{3})(L)$/.exec(part);
      if (nth !== null) return [`${day(readValue(nth[1] ?? '', field, part))}#${nth[2]}`];
      if (part.includes('#')) throw wrongExpression(`the day-of-week "${part}" needs 1 to 5 or L after the #`);
      const { from, to, step } = parsePart(part, field);
      const first = from ?? field.min;
      const last = from === undefined ? field.min + 6 : to < first ? to + 7 : to;
      return Array.from({ length: Math.floor((last - first) / step) + 1 }, (_, at) => day(first + at * step));
    });
  return [...new Set(days)].join(',');
}

/** `from` is undefined for `*`. Without a range `to` is `from`, with a step and no range the field's end. */
function parsePart(
  part: string,
  field: CronField,
): { readonly from: number | undefined; readonly to: number; readonly step: number } {
  const match = /^(?:\*|(\w+)(?:-(\w+))?)(?:\/(\d+))?$/.exec(part);
  if (match === null) throw wrongExpression(`the ${field.name} "${part.slice(0, 50)}" is not understood`);
  const [, first, last, stepText] = match;
  const step = Number(stepText ?? 1);
  if (step < 1 || step > field.max) {
    throw wrongExpression(`the step of the ${field.name} "${part}" must be from 1 to ${field.max}`);
  }
  if (first === undefined) return { from: undefined, to: field.max, step };
  const from = readValue(first, field, part);
  if (last === undefined) return { from, to: stepText === undefined ? from : field.max, step };
  return { from, to: readValue(last, field, part), step };
}

function readValue(text: string, field: CronField, part: string): number {
  const named = field.names?.indexOf(text.toUpperCase()) ?? -1;
  const value = named === -1 ? (/^\d{1,4}$/.test(text) ? Number(text) : Number.NaN) : field.min + named;
  if (value >= field.min && value <= field.max) return value;
  const names = field.names === undefined ? '' : `, or ${field.names[0]} to ${field.names.at(-1)}`;
  throw wrongExpression(`the ${field.name} "${part.slice(0, 50)}" must be from ${field.min} to ${field.max}${names}`);
}
