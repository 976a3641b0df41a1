import { setImmediate as nextTurn } from 'node:timers/promises';
import { Backoff } from '@lambda-fleet/common/backoff';
import { errorText } from '@lambda-fleet/common/errors';
import type { Logger } from '@lambda-fleet/common/logger';
import type { Decision, DueRow, DueTicks } from './due-ticks.js';
import { CATCH_UP_BYTES_MAX, planTicks, type TickPlan } from './plan-ticks.js';
import { timetableOf } from './timetable.js';

/** The backstop: for schedules that another process changed. */
const LOOK_EVERY_MS = 10_000;

/** Nobody says when an invocation ends that a tick waits for. */
const WAITING_LOOK_EVERY_MS = 1_000;

/** Something is due, and another replica is writing it. */
const TAKEN_PAUSE_MS = 250;

/** Schedules of one statement. */
const BATCH = 100;

/**
 * Takes the ticks of all schedules when they are due. Any number of replicas may: each tick is taken by whoever writes the
 * next one into the schedule's row first, and what becomes of it is written by the same statement.
 *
 * States: looking → sleeping → looking … → closed. Being woken while it looks makes it look once more.
 */
export class ScheduleTicker {
  #state: 'sleeping' | 'looking' | 'closed' = 'sleeping';
  #again = false;
  #timer: NodeJS.Timeout | undefined;
  #look: Promise<void> = Promise.resolve();
  readonly #backoff = new Backoff({ firstMs: 500, capMs: LOOK_EVERY_MS });

  constructor(
    private readonly due: DueTicks,
    private readonly log: Logger,
  ) {}

  start(): void {
    this.wake();
  }

  /** A schedule was changed, or something may be due. */
  wake(): void {
    this.#again = true;
    if (this.#state === 'sleeping') this.#look = this.#run();
  }

  /** Resolves when nothing is being written any more. */
  close(): Promise<void> {
    this.#become('closed');
    clearTimeout(this.#timer);
    return this.#look;
  }

  /** Never rejects. */
  async #run(): Promise<void> {
    this.#become('looking');
    clearTimeout(this.#timer);
    let sleepMs = 0;
    while (this.#again && this.#state === 'looking') {
      this.#again = false;
      try {
        sleepMs = await this.#takeDue();
        this.#backoff.reset();
      } catch (err) {
        // What is due stays due.
        this.log.warn({ reason: errorText(err) }, 'ticks_not_taken');
        sleepMs = this.#backoff.next();
      }
    }
    if (this.#state === 'closed') return;
    this.#become('sleeping');
    this.#timer = setTimeout(() => this.wake(), sleepMs);
    this.#timer.unref();
  }

  /** Until nothing is due. Returns how long to sleep, milliseconds. */
  async #takeDue(): Promise<number> {
    while (this.#state === 'looking') {
      const found = await this.due.find(BATCH);
      if (found.length === 0) break;
      const decisions = await this.#decide(found);
      if ((await this.due.take(decisions)) === 0) return TAKEN_PAUSE_MS;
    }
    const { nextMs, waiting } = await this.due.next();
    const bound = waiting ? WAITING_LOOK_EVERY_MS : LOOK_EVERY_MS;
    // Timers are early by up to a millisecond.
    return Math.min(bound, Math.max(0, Math.ceil(nextMs ?? bound) + 1));
  }

  /** Of as many as one statement may hold the payloads of. */
  async #decide(found: readonly DueRow[]): Promise<readonly Decision[]> {
    const decisions: Decision[] = [];
    let bytes = 0;
    for (const schedule of found) {
      const plan = this.#plan(schedule);
      bytes += plan.ticks.filter(({ outcome }) => outcome === 'ran').length * schedule.payloadBytes;
      if (bytes > CATCH_UP_BYTES_MAX && decisions.length > 0) break;
      decisions.push({ schedule, plan });
      // After an outage a plan may take some milliseconds, and there may be many.
      await nextTurn();
    }
    return decisions;
  }

  #plan(schedule: DueRow): TickPlan {
    try {
      return planTicks(schedule, timetableOf(schedule));
    } catch (err) {
      // It was checked when it was stored: the zone is unknown to this process. Left as it is, it would be due for ever.
      this.log.error({ schedule: schedule.id, reason: errorText(err) }, 'schedule_not_understood');
      const tickAt = schedule.nextTickAt ?? schedule.now;
      const ticks = [{ tickAt, outcome: 'missed' as const, count: 1, until: null }];
      return { ticks, nextTickAt: null, waitingTickAt: null };
    }
  }

  #become(next: 'sleeping' | 'looking' | 'closed'): void {
    if (this.#state === 'closed' && next !== 'closed') throw new Error(`a closed ticker cannot be ${next}`);
    this.#state = next;
  }
}
