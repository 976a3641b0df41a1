import { FleetError } from '@lambda-fleet/common/errors';
import { Cron } from 'croner';
import { wrongExpression } from './cron-field.js';
import { parseRhythm } from './rhythm.js';

/** What decides when a schedule ticks. */
export interface Timing {
  readonly expression: string;
  /** IANA. Means nothing to `rate(…)`. */
  readonly timeZone: string;
  /** `rate(…)` ticks at this time plus one, two, … intervals. */
  readonly anchorAt: Date;
}

/** The first tick after a time; undefined when there is none any more. Ticks are whole milliseconds. */
export type Timetable = (after: Date) => Date | undefined;

/**
 * The ticks of a schedule.
 *
 * When the clocks of its zone are set forward, a time of day that is skipped ticks at the end of the gap, once; when they
 * are set back, one that comes twice ticks the first time only. Where second, minute or hour is `*` or has a step, the
 * expression means an interval instead: what is skipped is skipped, what comes twice ticks twice. `rate(…)` knows no clocks.
 *
 * @throws FleetError `invalid_request` that names `expression` or `timeZone`
 */
export function timetableOf({ expression, timeZone, anchorAt }: Timing): Timetable {
  const rhythm = parseRhythm(expression);
  checkTimeZone(timeZone);
  if (rhythm.kind === 'rate') {
    const { everyMs } = rhythm;
    const anchorMs = anchorAt.getTime();
    return (after) =>
      new Date(anchorMs + Math.max(1, Math.floor((after.getTime() - anchorMs) / everyMs) + 1) * everyMs);
  }
  const cron = evaluatorOf(rhythm.pattern, timeZone);
  return (after) => cron.nextRun(after) ?? undefined;
}

/** The next tick of a schedule behind `after`. Pure. */
export function nextTick(timing: Timing, after: Date): Date | undefined {
  return timetableOf(timing)(after);
}

/** At most `count` ticks after a time, earliest first. */
export function nextTicks(timing: Timing, after: Date, count: number): readonly Date[] {
  const next = timetableOf(timing);
  const ticks: Date[] = [];
  for (let tick = next(after); tick !== undefined && ticks.length < count; tick = next(tick)) ticks.push(tick);
  return ticks;
}

/** @throws FleetError `invalid_request` */
function checkTimeZone(timeZone: string): void {
  // Intl also takes offsets, such as +02:00, which are no zones: they never change.
  if (/^[A-Za-z][A-Za-z0-9_+/-]{0,63}$/.test(timeZone)) {
    try {
      new Intl.DateTimeFormat('en', { timeZone });
      return;
    } catch {
      // RangeError: no such zone.
    }
  }
  throw new FleetError(
    'invalid_request',
    `timeZone must be an IANA time zone, such as Europe/Berlin or UTC; "${timeZone.slice(0, 64)}" is none.`,
    { field: 'timeZone' },
  );
}

function evaluatorOf(pattern: string, timezone: string): Cron {
  try {
    return new Cron(pattern, { timezone, mode: '7-part', fixedTimeRule: 'no-wildcard', paused: true });
  } catch (err) {
    // What is written here has been checked before; this is what the library knows better.
    throw wrongExpression(err instanceof Error ? err.message.slice(0, 200) : String(err));
  }
}
