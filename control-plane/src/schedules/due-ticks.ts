import { v7 as uuidv7 } from 'uuid';
import { enqueue, type QueueLimits, wakeQueue } from '../async/enqueue.js';
import type { Sql } from '../db/connection-target.js';
import type { Database } from '../db/database.js';
import type { DueSchedule, TickPlan } from './plan-ticks.js';
import { scheduledEvent } from './scheduled-event.js';
import { tickJitterMs } from './tick-jitter.js';
import type { Timing } from './timetable.js';

/** What is needed to write what was decided about a schedule. */
interface DecidedBy {
  readonly id: string;
  readonly name: string;
  readonly revision: number;
  readonly jitterMs: number;
}

export type DueRow = DueSchedule & DecidedBy & Timing;

export interface Decision {
  readonly schedule: DecidedBy;
  readonly plan: TickPlan;
}

/** A tick as the statements take it. Times are ISO 8601. */
interface TickRow {
  readonly schedule_id: string;
  readonly tick_at: string;
  readonly outcome: string;
  readonly count: number;
  readonly until: string | null;
  readonly invocation_id: string | null;
  readonly event: string;
  readonly not_before: string;
}

/** Takes ticks of schedules: what is due, and what became of it. All times are the database's. */
export class DueTicks {
  constructor(
    private readonly database: Database,
    private readonly limits: QueueLimits,
  ) {}

  /** Schedules that have a tick due, or one that waits for nothing any more; the longest due first. */
  find(limit: number): Promise<readonly DueRow[]> {
    return this.database.run(
      'find due schedules',
      (sql) => sql<DueRow[]>`
        select id, name, revision, expression, time_zone, anchor_at, overlap, catch_up_ms, jitter_ms, next_tick_at,
          waiting_tick_at, coalesce(octet_length(payload), 0) as payload_bytes, ${busy(sql)} as busy, now() as now
        from schedules s
        where id in (
          (select id from schedules where enabled and next_tick_at <= now() order by next_tick_at limit ${limit})
          union
          (select id from schedules s where enabled and waiting_tick_at is not null and not ${busy(sql)} limit ${limit})
        )
        order by next_tick_at limit ${limit}`,
    );
  }

  /** Milliseconds until the next tick, and whether one waits. */
  async next(): Promise<{ readonly nextMs: number | null; readonly waiting: boolean }> {
    const [row] = await this.database.run(
      'next tick',
      (sql) => sql<{ nextMs: number | null; waiting: boolean }[]>`
        select extract(epoch from min(next_tick_at) - now())::double precision * 1000 as next_ms,
          exists(select from schedules where enabled and waiting_tick_at is not null) as waiting
        from schedules where enabled`,
    );
    return row ?? { nextMs: null, waiting: false };
  }

  /**
   * Takes the ticks of these decisions: moves each schedule on to its next tick, queues invocations and writes history, of
   * those schedules that nobody has written since they were read. Rows that somebody else writes at this moment are left
   * to him.
   *
   * @returns of how many schedules
   */
  async take(decisions: readonly Decision[]): Promise<number> {
    const moves = decisions.map(({ schedule: { id, revision }, plan }) => ({
      id,
      revision,
      next_tick_at: plan.nextTickAt?.toISOString() ?? null,
      waiting_tick_at: plan.waitingTickAt?.toISOString() ?? null,
    }));
    const [row] = await this.database.run(
      'take ticks',
      (sql) => sql<{ taken: number }[]>`
        with moves as (
          select * from jsonb_to_recordset(${sql.json(moves)}) as m
            (id uuid, revision integer, next_tick_at timestamptz, waiting_tick_at timestamptz)
        ), claimed as (
          select s.* from schedules s join moves m on m.id = s.id and m.revision = s.revision
          where s.enabled order by s.id for update of s skip locked
        ), moved as (
          update schedules s set next_tick_at = m.next_tick_at, waiting_tick_at = m.waiting_tick_at, revision = s.revision + 1
          from moves m join claimed on claimed.id = m.id where s.id = m.id
          returning s.id
        ), ${record(sql, 'schedule', decisions.flatMap(tickRows), this.limits)}
        select (select count(*)::integer from moved) as taken, ${wakeQueue(sql)}`,
    );
    return row?.taken ?? 0;
  }

  /**
   * Queues an invocation of a schedule now, whatever else of it is in progress.
   *
   * @param tickAt what is recorded as its time, and in the event
   * @returns undefined when there is no such schedule any more, or the queue of its function is full
   */
  async runNow(schedule: { readonly id: string; readonly name: string }, tickAt: Date): Promise<string | undefined> {
    const tick = { tickAt, outcome: 'ran' as const, count: 1, until: null };
    const rows = [tickRow({ ...schedule, jitterMs: 0 }, tick)];
    const [row] = await this.database.run(
      'run schedule now',
      (sql) => sql<{ id: string }[]>`
        with claimed as (select * from schedules where id = ${schedule.id}),
        ${record(sql, 'manual', rows, this.limits)}
        select id, ${wakeQueue(sql)} from accepted`,
    );
    return row?.id;
  }
}

/** `claimed` names the schedules whose ticks these are. */
function record(sql: Sql, trigger: 'schedule' | 'manual', rows: readonly TickRow[], limits: QueueLimits) {
  return sql`
    ticks as (
      select t.*, row_number() over () as place
      from jsonb_to_recordset(${sql.json(rows.map((row) => ({ ...row })))}) as t (
        schedule_id uuid, tick_at timestamptz, outcome text, count integer, until timestamptz, invocation_id uuid, event text,
        not_before timestamptz
      )
    ), work as (
      select t.invocation_id as id, s.project_id, s.function_id as lane_id, 'function'::text as kind, s.function_id,
        s.function_name, null::uuid as version_id, 'schedule'::text as trigger,
        coalesce(s.payload, convert_to(t.event, 'UTF8')) as payload,
        jsonb_build_object('scheduleId', s.id, 'tickAt', (extract(epoch from t.tick_at) * 1000)::bigint) as context,
        t.not_before, greatest(now(), t.not_before) + f.async_max_age_ms * interval '1 millisecond' as expires_at
      from ticks t join claimed s on s.id = t.schedule_id join functions f on f.id = s.function_id
      where t.invocation_id is not null
    ), ${enqueue(sql, 'work', limits)}, recorded as (
      insert into schedule_ticks (schedule_id, project_id, trigger, tick_at, outcome, invocation_id, count, until)
      select t.schedule_id, s.project_id, ${trigger}, t.tick_at,
        case when t.invocation_id is not null and accepted.id is null then 'queue_full' else t.outcome end,
        accepted.id, t.count, t.until
      from ticks t join claimed s on s.id = t.schedule_id left join accepted on accepted.id = t.invocation_id
      order by t.place
    )`;
}

function tickRows({ schedule, plan }: Decision): readonly TickRow[] {
  return plan.ticks.map((tick) => tickRow(schedule, tick));
}

function tickRow(
  { id, name, jitterMs }: Omit<DecidedBy, 'revision'>,
  { tickAt, outcome, count, until }: TickPlan['ticks'][number],
): TickRow {
  const invocationId = outcome === 'ran' ? uuidv7() : null;
  return {
    schedule_id: id,
    tick_at: tickAt.toISOString(),
    outcome,
    count,
    until: until?.toISOString() ?? null,
    invocation_id: invocationId,
    event: invocationId === null ? '' : scheduledEvent(invocationId, name, tickAt),
    not_before: new Date(tickAt.getTime() + tickJitterMs(id, tickAt, jitterMs)).toISOString(),
  };
}

/** Whether an invocation of the schedule `s` has not ended. */
function busy(sql: Sql) {
  return sql`exists(
    select from async_invocations a where a.trigger = 'schedule' and a.context ->> 'scheduleId' = s.id::text
  )`;
}
