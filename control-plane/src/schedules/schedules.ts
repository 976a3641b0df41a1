import { FleetError } from '@lambda-fleet/common/errors';
import { v7 as uuidv7 } from 'uuid';
import { functionNotFound } from '../functions/function-table.js';
import type { DueTicks } from './due-ticks.js';
import type { ScheduleRecord, ScheduleSettings, ScheduleSummary, TickRecord } from './schedule.js';
import { parseNewSchedule, parseScheduleChanges } from './schedule-input.js';
import type { ScheduleTable } from './schedule-table.js';
import type { ScheduleTicker } from './schedule-ticker.js';
import type { TickHistory } from './tick-history.js';
import { nextTick, nextTicks, type Timing } from './timetable.js';

export interface SchedulesOptions {
  readonly table: ScheduleTable;
  readonly due: DueTicks;
  readonly history: TickHistory;
  readonly ticker: Pick<ScheduleTicker, 'wake'>;
  /** Schedules of one project. */
  readonly perProjectMax: number;
}

export interface ScheduleDetail extends ScheduleSummary {
  /** JSON text; null when it has none. */
  readonly payload: string | null;
  /** None while paused. */
  readonly nextRuns: readonly Date[];
}

const RUNS_SHOWN = 5;

/** How often a change is tried that ticks get in the way of. */
const CHANGE_TRIES = 10;

/** What clients may do with the schedules of their project. */
export class Schedules {
  constructor(private readonly options: SchedulesOptions) {}

  /**
   * @param body of a request, not checked yet
   * @throws FleetError `invalid_request`, `invalid_name`, `payload_too_large`, `function_not_found`, `conflict`
   */
  async create(projectId: string, body: unknown): Promise<ScheduleDetail> {
    const { table, ticker, perProjectMax } = this.options;
    const wanted = parseNewSchedule(body);
    const { functionId, schedules, now } = await table.before(projectId, wanted.functionName);
    const timing = { ...wanted, anchorAt: wholeSecond(now) };
    const nextTickAt = firstTick(timing, now);
    if (functionId === null) {
      const { code, message } = functionNotFound(wanted.functionName);
      throw new FleetError(code, message, { field: 'function' });
    }
    if (schedules >= perProjectMax) {
      throw new FleetError(
        'conflict',
        `The project has ${schedules} schedules, which is as many as it may have. Remove one first.`,
        { schedulesMax: perProjectMax },
      );
    }
    const stored = await table.insert({
      ...timing,
      ...{ id: uuidv7(), projectId, functionId, nextTickAt: wanted.enabled ? nextTickAt : null },
    });
    ticker.wake();
    return detailOf(stored);
  }

  list(
    projectId: string,
    filter: { readonly functionName?: string; readonly afterName: string; readonly limit: number },
  ): Promise<readonly ScheduleSummary[]> {
    return this.options.table.list(projectId, filter);
  }

  /** @throws FleetError `schedule_not_found` */
  async get(projectId: string, idOrName: string): Promise<ScheduleDetail> {
    return detailOf(await this.options.table.get(projectId, idOrName));
  }

  /** @throws FleetError as {@link create}, and `schedule_not_found` */
  async change(projectId: string, idOrName: string, body: unknown): Promise<ScheduleDetail> {
    return this.#write(projectId, idOrName, parseScheduleChanges(body));
  }

  /** From now on no tick is taken; what one has queued runs. @throws FleetError `schedule_not_found` */
  pause(projectId: string, idOrName: string): Promise<ScheduleDetail> {
    return this.#write(projectId, idOrName, { enabled: false });
  }

  /** Ticks of the pause are not made up for. @throws FleetError `schedule_not_found` */
  resume(projectId: string, idOrName: string): Promise<ScheduleDetail> {
    return this.#write(projectId, idOrName, { enabled: true });
  }

  /** @throws FleetError `schedule_not_found` */
  async remove(projectId: string, idOrName: string): Promise<void> {
    await this.options.table.remove(projectId, idOrName);
  }

  /**
   * Queues an invocation at once, also of a paused schedule and whatever else of it is in progress.
   *
   * @throws FleetError `schedule_not_found`, `throttled`
   */
  async runNow(projectId: string, idOrName: string): Promise<{ readonly invocationId: string; readonly tickAt: Date }> {
    const { id, name, functionName, now } = await this.options.table.get(projectId, idOrName);
    const invocationId = await this.options.due.runNow({ id, name }, now);
    if (invocationId !== undefined) return { invocationId, tickAt: now };
    throw new FleetError(
      'throttled',
      `The queue of the function "${functionName}" is full, so nothing was queued. Try again when some of it has run.`,
      { retryAfterSeconds: 5 },
    );
  }

  /** What became of its ticks, newest first. @throws FleetError `schedule_not_found`, `invalid_request` */
  async ticks(
    projectId: string,
    idOrName: string,
    before: string | undefined,
    limit: number,
  ): Promise<readonly TickRecord[]> {
    const { id } = await this.options.table.get(projectId, idOrName);
    return this.options.history.list(id, before, limit);
  }

  async #write(projectId: string, idOrName: string, changes: Partial<ScheduleSettings>): Promise<ScheduleDetail> {
    const { table, ticker } = this.options;
    for (let tries = 0; tries < CHANGE_TRIES; tries += 1) {
      const was = await table.get(projectId, idOrName);
      const to = { ...was, ...changes };
      const retimed = to.expression !== was.expression || to.timeZone !== was.timeZone;
      const anchorAt = to.expression === was.expression ? was.anchorAt : wholeSecond(was.now);
      const restarted = retimed || (to.enabled && !was.enabled);
      const checked = restarted ? firstTick({ ...to, anchorAt }, was.now) : was.nextTickAt;
      const changed = await table.change(was, { ...to, anchorAt, nextTickAt: to.enabled ? checked : null });
      if (changed !== undefined) {
        ticker.wake();
        return detailOf(changed);
      }
    }
    throw new FleetError('conflict', 'The schedule was changed at the same moment. Look at it and try again.');
  }
}

/** @throws FleetError `invalid_request` when there is none */
function firstTick(timing: Timing, now: Date): Date {
  const tick = nextTick(timing, now);
  if (tick !== undefined) return tick;
  throw new FleetError(
    'invalid_request',
    `expression never comes true from now on: "${timing.expression}". Look at its days, months and years.`,
    { field: 'expression' },
  );
}

/** So that `rate(…)` ticks at times that are easy to read. */
function wholeSecond(time: Date): Date {
  return new Date(Math.floor(time.getTime() / 1_000) * 1_000);
}

function detailOf(row: ScheduleRecord): ScheduleDetail {
  const { projectId: _p, anchorAt: _a, revision: _r, now, payload, ...summary } = row;
  const nextRuns = row.enabled && row.nextTickAt !== null ? nextTicks(row, now, RUNS_SHOWN) : [];
  return { ...summary, payload: payload?.toString() ?? null, nextRuns };
}
