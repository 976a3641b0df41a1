import type postgres from 'postgres';
import type { Sql } from '../db/connection-target.js';
import { notice } from '../db/notification-listener.js';

export interface QueueLimits {
  /** Queued invocations of one lane. */
  readonly queuedMax: number;
  /** Their payloads together. */
  readonly queuedBytesMax: number;
}

type Fragment = postgres.PendingQuery<postgres.Row[]>;

/** For what was accepted long ago: nothing of it may be turned away. */
const UNLIMITED: QueueLimits = { queuedMax: 2_147_483_647, queuedBytesMax: 2 ** 52 };

/**
 * The part of a statement that queues invocations: the common table expressions `lane_work`, `accepted_lanes` and
 * `accepted`, the last with the `id` of each row that was queued. Rows of a lane that has as many as it may are left out.
 *
 * `work` names an earlier expression with the columns id, project_id, lane_id, kind, function_id, function_name, version_id,
 * trigger, payload, context, not_before, expires_at.
 */
export function enqueue(sql: Sql, work: string, limits: QueueLimits): Fragment {
  return sql`
    lane_work as (
      select lane_id, project_id, count(*)::integer as queued, sum(octet_length(payload))::bigint as bytes,
        min(not_before) as next_due, bool_or(kind = 'job') as jobs
      from ${sql(work)} work group by lane_id, project_id
    ), ${fillLanes(sql, limits)}, ${insertQueued(sql, work)}`;
}

/**
 * The expression `accepted_lanes`, from `lane_work` (lane_id, project_id, queued, bytes, next_due, jobs): lanes are told of
 * what is added to them.
 *
 * They are written in the order of their ids, as everybody does, so that no two statements wait for each other. A lane that
 * had nothing due begins where the others are: time that it was idle is no credit. When nothing is due, that is where the one
 * is that was served most, so that a new function does not begin before all old ones. Lanes of jobs are not the others of a
 * function's: as many jobs as may being in progress, they stand still.
 */
export function fillLanes(sql: Sql, { queuedMax, queuedBytesMax }: QueueLimits = UNLIMITED): Fragment {
  return sql`
    accepted_lanes as (
      insert into lanes as l (id, project_id, queued, queued_bytes, next_due, virtual_time, turned, jobs)
      select lane_id, project_id, queued, bytes, next_due,
        coalesce(
          (select min(virtual_time) from lanes where next_due <= now() and (lane_work.jobs or not lanes.jobs)),
          (select max(virtual_time) from lanes where lane_work.jobs or not lanes.jobs), 0
        ), 1, jobs
      from lane_work where queued <= ${queuedMax}::integer and bytes <= ${queuedBytesMax}::bigint
      order by lane_id
      on conflict (id) do update set
        queued = l.queued + excluded.queued,
        queued_bytes = l.queued_bytes + excluded.queued_bytes,
        virtual_time = case when l.next_due <= now() then l.virtual_time else greatest(l.virtual_time, excluded.virtual_time) end,
        turned = case when l.next_due is null or l.next_due > excluded.next_due then 1 else 0 end,
        next_due = least(l.next_due, excluded.next_due)
      where l.queued + excluded.queued <= ${queuedMax}::integer
        and l.queued_bytes + excluded.queued_bytes <= ${queuedBytesMax}::bigint
      returning l.id, l.turned
    )`;
}

/** The expression `accepted`: the rows of `work` whose lanes are in `accepted_lanes`. */
export function insertQueued(sql: Sql, work: string): Fragment {
  return sql`
    accepted as (
      insert into async_invocations (
        id, project_id, lane_id, kind, function_id, function_name, version_id, trigger, payload, context, not_before, expires_at
      )
      select
        w.id, w.project_id, w.lane_id, w.kind, w.function_id, w.function_name, w.version_id, w.trigger, w.payload, w.context,
        w.not_before, w.expires_at
      from ${sql(work)} w join accepted_lanes on accepted_lanes.id = w.lane_id
      returning id
    )`;
}

/**
 * To be put into the outermost select list of a statement with {@link enqueue}: wakes those who run the queue, when a lane
 * has work that they do not know of. Only then, because commits that send notices wait for each other.
 */
export function wakeQueue(sql: Sql): Fragment {
  return sql`(select ${notice(sql, 'async', '')} where exists (select from accepted_lanes where turned = 1))`;
}
