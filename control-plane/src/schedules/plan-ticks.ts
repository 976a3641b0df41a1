import type { Overlap, TickOutcome } from './schedule.js';
import type { Timetable } from './timetable.js';

/** A schedule of which something is due. */
export interface DueSchedule {
  readonly overlap: Overlap;
  readonly catchUpMs: number;
  readonly payloadBytes: number;
  readonly nextTickAt: Date | null;
  readonly waitingTickAt: Date | null;
  /** An invocation of it has not ended. */
  readonly busy: boolean;
  /** By the database's clock. */
  readonly now: Date;
}

export interface PlannedTick {
  readonly tickAt: Date;
  readonly outcome: Exclude<TickOutcome, 'queue_full'>;
  /** More than one only of missed ticks, the first of which is at `tickAt`, the last before `until`. */
  readonly count: number;
  readonly until: Date | null;
}

export interface TickPlan {
  readonly ticks: readonly PlannedTick[];
  readonly nextTickAt: Date | null;
  readonly waitingTickAt: Date | null;
}

/** A tick that is found this late is on time, whatever the window: replicas look every few seconds, if nothing wakes them. */
const ON_TIME_MS = 10_000;

/** Ticks of one schedule that are made up for at once, with a payload each. */
const CATCH_UP_TICKS_MAX = 100;
export const CATCH_UP_BYTES_MAX = 16 * 1024 * 1024;

/** Each takes some 50 µs to find. */
const MISSED_COUNTED_MAX = 500;

/**
 * What becomes of the ticks that are due, and the next one. Pure.
 *
 * Only ticks of the catch-up window are run, and of those the newest one with overlap `skip`, the newest two with `queue`,
 * a hundred with `allow`; the older ones are missed, and one entry stands for all of them.
 */
export function planTicks(schedule: DueSchedule, next: Timetable): TickPlan {
  const { overlap, nextTickAt, now } = schedule;
  const ticks: PlannedTick[] = [];
  const add = (tickAt: Date, outcome: PlannedTick['outcome']): void => {
    ticks.push({ tickAt, outcome, count: 1, until: null });
  };
  let { busy, waitingTickAt } = schedule;
  if (waitingTickAt !== null && !busy) {
    add(waitingTickAt, 'ran');
    busy = true;
    waitingTickAt = null;
  }
  if (nextTickAt === null || nextTickAt > now) return { ticks, nextTickAt, waitingTickAt };

  const windowMs = Math.max(schedule.catchUpMs, ON_TIME_MS);
  const windowFrom = now.getTime() - windowMs;
  const max = keptMax(schedule);
  const kept = newestTicks(next, Math.max(nextTickAt.getTime() + 1, windowFrom), now, max);
  // A tick whatever the timetable says today: zones change their rules.
  if (kept.length < max && nextTickAt.getTime() >= windowFrom) kept.unshift(nextTickAt);
  const [first] = kept;
  if (first === undefined || first > nextTickAt) ticks.push(missed(next, nextTickAt, first ?? now));
  for (const tick of kept) {
    if (overlap === 'allow' || !busy) {
      add(tick, 'ran');
      busy = true;
    } else if (overlap === 'queue' && waitingTickAt === null) {
      add(tick, 'waiting');
      waitingTickAt = tick;
    } else {
      add(tick, 'skipped');
    }
  }
  return { ticks, nextTickAt: next(now) ?? null, waitingTickAt };
}

function keptMax({ overlap, payloadBytes }: DueSchedule): number {
  if (overlap === 'skip') return 1;
  if (overlap === 'queue') return 2;
  return Math.min(CATCH_UP_TICKS_MAX, Math.max(1, Math.floor(CATCH_UP_BYTES_MAX / Math.max(1, payloadBytes))));
}

/** The last `max` ticks from `from` (milliseconds) to `to`, both included, earliest first. */
function newestTicks(next: Timetable, from: number, to: Date, max: number): Date[] {
  const found: Date[] = [];
  let end = to.getTime() + 1;
  let guessMs = 1_000;
  while (found.length < max) {
    const tick = lastTick(next, from, end, guessMs);
    if (tick === undefined) break;
    found.unshift(tick);
    // The distance between two ticks is often the distance to the one before.
    guessMs = Math.max(1_000, end - tick.getTime());
    end = tick.getTime();
  }
  return found;
}

/** The last tick that is not before `from` and before `end`; milliseconds. Looks `guessMs` back first, then further. */
function lastTick(next: Timetable, from: number, end: number, guessMs: number): Date | undefined {
  const tickBehind = (ms: number): number => next(new Date(ms))?.getTime() ?? Number.POSITIVE_INFINITY;
  let back = guessMs;
  let low = end - 1 - back;
  while (low >= from && tickBehind(low) >= end) {
    back *= 2;
    low = end - 1 - back;
  }
  let last = tickBehind(Math.max(low, from - 1));
  if (last >= end) return undefined;
  // There is one, and no tick from `high` to `end`.
  for (let high = end - 1; ; ) {
    const following = tickBehind(last);
    if (following >= end) return new Date(last);
    const middle = Math.floor((following + high) / 2);
    const beyond = tickBehind(middle);
    if (beyond < end) {
      last = beyond;
    } else {
      high = middle;
      last = following;
    }
  }
}

function missed(next: Timetable, first: Date, until: Date): PlannedTick {
  let count = 0;
  for (
    let tick: Date | undefined = first;
    tick !== undefined && (tick < until || count === 0) && count < MISSED_COUNTED_MAX;
    tick = next(tick)
  ) {
    count += 1;
  }
  return { tickAt: first, outcome: 'missed', count, until: count === 1 ? null : until };
}
