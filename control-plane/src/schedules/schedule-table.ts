import { FleetError } from '@lambda-fleet/common/errors';
import { validate as isUuid } from 'uuid';
import type { Sql } from '../db/connection-target.js';
import { type Database, violatedConstraint } from '../db/database.js';
import type { ScheduleRecord, ScheduleSettings, ScheduleSummary } from './schedule.js';
import type { NewSchedule } from './schedule-input.js';

/** A schedule before it is stored. */
export interface ScheduleDraft extends NewSchedule {
  readonly id: string;
  readonly projectId: string;
  readonly functionId: string;
  readonly anchorAt: Date;
  readonly nextTickAt: Date | null;
}

export interface ScheduleChange extends ScheduleSettings {
  readonly anchorAt: Date;
  readonly nextTickAt: Date | null;
}

/** What clients do with schedules: store, read, change, remove. Their ticks are taken by {@link DueTicks}. */
export class ScheduleTable {
  constructor(private readonly database: Database) {}

  /** The function's id, if there is one of this name, how many schedules the project has, and the database's clock. */
  async before(
    projectId: string,
    functionName: string,
  ): Promise<{ readonly functionId: string | null; readonly schedules: number; readonly now: Date }> {
    const [row] = await this.database.run(
      'look before a new schedule',
      (sql) => sql<{ functionId: string | null; schedules: number; now: Date }[]>`
        select (select id from functions where project_id = ${projectId} and name = ${functionName}) as function_id,
          (select count(*)::integer from schedules where project_id = ${projectId}) as schedules, now() as now`,
    );
    return row ?? { functionId: null, schedules: 0, now: new Date() };
  }

  /** @throws FleetError `conflict` when the name is taken, or its function is gone */
  async insert(draft: ScheduleDraft): Promise<ScheduleRecord> {
    try {
      const [row] = await this.database.run(
        'store schedule',
        (sql) => sql<ScheduleRecord[]>`
          insert into schedules (
            id, project_id, name, function_id, function_name, expression, time_zone, anchor_at, payload, enabled, overlap,
            catch_up_ms, jitter_ms, next_tick_at
          ) values (
            ${draft.id}, ${draft.projectId}, ${draft.name}, ${draft.functionId}, ${draft.functionName}, ${draft.expression},
            ${draft.timeZone}, ${draft.anchorAt}, ${draft.payload}, ${draft.enabled}, ${draft.overlap}, ${draft.catchUpMs},
            ${draft.jitterMs}, ${draft.nextTickAt}
          ) returning ${record(sql)}`,
      );
      if (row !== undefined) return row;
    } catch (err) {
      const constraint = violatedConstraint(err);
      if (constraint === 'schedules_project_name') {
        throw new FleetError(
          'conflict',
          `A schedule named "${draft.name}" exists already. Change it with PATCH /api/schedules/${draft.name}, or choose another name.`,
          { field: 'name' },
        );
      }
      if (constraint !== 'schedules_function_exists') throw err;
    }
    throw new FleetError('conflict', `The function "${draft.functionName}" was deleted at this moment.`, {
      field: 'function',
    });
  }

  /** By name, those after `afterName`. */
  list(
    projectId: string,
    { functionName, afterName, limit }: { functionName?: string; afterName: string; limit: number },
  ): Promise<readonly ScheduleSummary[]> {
    return this.database.run(
      'list schedules',
      (sql) => sql<ScheduleSummary[]>`
        select ${summary(sql)} from schedules
        where project_id = ${projectId} and name > ${afterName} collate "C"
          ${functionName === undefined ? sql`` : sql`and function_name = ${functionName}`}
        order by name collate "C" limit ${limit}`,
    );
  }

  /** @throws FleetError `schedule_not_found` */
  async get(projectId: string, idOrName: string): Promise<ScheduleRecord> {
    const [row] = await this.database.run(
      'get schedule',
      (sql) => sql<ScheduleRecord[]>`
        select ${record(sql)} from schedules where project_id = ${projectId} and ${named(sql, idOrName)}`,
    );
    return row ?? scheduleNotFound();
  }

  /**
   * Writes these settings, if nobody has written the row since `was` was read. A tick that waits is given up with a pause.
   */
  async change(was: ScheduleRecord, to: ScheduleChange): Promise<ScheduleRecord | undefined> {
    const [row] = await this.database.run(
      'change schedule',
      (sql) => sql<ScheduleRecord[]>`
        with changed as (
          update schedules set
            expression = ${to.expression}, time_zone = ${to.timeZone}, anchor_at = ${to.anchorAt}, payload = ${to.payload},
            enabled = ${to.enabled}, overlap = ${to.overlap}, catch_up_ms = ${to.catchUpMs}, jitter_ms = ${to.jitterMs},
            next_tick_at = ${to.nextTickAt}, waiting_tick_at = case when ${to.enabled} then waiting_tick_at end,
            revision = revision + 1, updated_at = now()
          where id = ${was.id} and revision = ${was.revision}
          returning *
        ), given_up as (
          insert into schedule_ticks (schedule_id, project_id, trigger, tick_at, outcome)
          select id, project_id, 'schedule', ${was.waitingTickAt}::timestamptz, 'skipped' from changed
          where not enabled and ${was.waitingTickAt}::timestamptz is not null
        )
        select ${record(sql)} from changed`,
    );
    return row;
  }

  /** @throws FleetError `schedule_not_found` */
  async remove(projectId: string, idOrName: string): Promise<void> {
    const rows = await this.database.run(
      'remove schedule',
      (sql) => sql`delete from schedules where project_id = ${projectId} and ${named(sql, idOrName)} returning id`,
    );
    if (rows.length === 0) scheduleNotFound();
  }
}

function scheduleNotFound(): never {
  throw new FleetError(
    'schedule_not_found',
    'There is no schedule with this name or id in this project. `lambda schedule ls` lists them.',
  );
}

function named(sql: Sql, idOrName: string) {
  // No name can have characters that text in PostgreSQL cannot.
  return isUuid(idOrName) ? sql`id = ${idOrName}` : sql`name = ${idOrName.replaceAll('\0', '')}`;
}

function summary(sql: Sql) {
  return sql`
    id, name, function_name, expression, time_zone, enabled, overlap, catch_up_ms, jitter_ms,
    coalesce(octet_length(payload), 0) as payload_bytes, next_tick_at, waiting_tick_at, created_at, updated_at`;
}

function record(sql: Sql) {
  return sql`${summary(sql)}, project_id, anchor_at, payload, revision, now() as now`;
}
