import type postgres from 'postgres';
import type { Sql } from '../db/connection-target.js';
import type { Database } from '../db/database.js';
import type { ClaimedInvocation } from './async-invocation.js';
import { jobOf, retrySettings } from './claim-invocations.js';

/** An invocation that is marked as running. */
export interface RunningInvocation extends ClaimedInvocation {
  /** Null: it was not sent to a node yet. */
  readonly nodeId: string | null;
  readonly bootId: string | null;
  /** Milliseconds since it was written down that it is about to be sent. */
  readonly begunMs: number | null;
  /** Its budgets and then some have passed. */
  readonly overdue: boolean;
  /** Its node was declared lost since, and its agent has ended what ran there. */
  readonly nodeLost: boolean;
  readonly cancelled: boolean;
}

/** For the way to the node and back, and for an agent that has to connect again. */
const OVERDUE_AFTER_MS = 30_000;

/** A function that is gone may have been allowed this long. */
const BUDGET_MAX_MS = 1_800_000;

/** Those whose lease ran out or was given up, at most `limit`. */
export function findAdrift(database: Database, limit: number): Promise<readonly RunningInvocation[]> {
  return database.run(
    'find async invocations adrift',
    (sql) => sql<RunningInvocation[]>`
      select ${columns(sql)} where a.status = 'running' and a.lease_until < now() order by a.lease_until limit ${limit}`,
  );
}

/** Those of these attempts that are running, on this node. */
export function findRunning(
  database: Database,
  nodeId: string,
  refs: readonly { readonly id: string; readonly epoch: number }[],
): Promise<readonly RunningInvocation[]> {
  const rows = refs.map(({ id, epoch }) => ({ id, epoch }));
  return database.run(
    'find running async invocations',
    (sql) => sql<RunningInvocation[]>`
      select ${columns(sql)} join jsonb_to_recordset(${sql.json(rows)}) as r (id uuid, epoch integer)
        on r.id = a.id and r.epoch = a.epoch
      where a.status = 'running' and a.node_id = ${nodeId}`,
  );
}

/** Leaves these for some seconds, so that others are looked at. */
export async function postpone(database: Database, ids: readonly string[], ms: number): Promise<void> {
  if (ids.length === 0) return;
  await database.run(
    'postpone async invocations adrift',
    (sql) => sql`
      update async_invocations set lease_until = now() + ${ms} * interval '1 millisecond'
      where id in (select i::uuid from jsonb_array_elements_text(${sql.json([...ids])}) i)
        and status = 'running' and lease_until < now()`,
  );
}

function columns(sql: Sql): postgres.PendingQuery<postgres.Row[]> {
  return sql`
    a.id, a.project_id, a.lane_id, a.kind, a.function_id, a.function_name, a.version_id, a.trigger, a.payload, a.context,
    a.epoch, a.attempts, a.losses, a.deferrals, a.accepted_at,
    extract(epoch from a.expires_at - now())::double precision * 1000 as left_ms,
    ${retrySettings(sql)},
    a.node_id, a.boot_id, extract(epoch from now() - a.started_at)::double precision * 1000 as begun_ms,
    a.cancel_requested_at is not null as cancelled,
    coalesce(n.lost_at > a.started_at and n.lease_boot_id = a.boot_id, false) as node_lost,
    coalesce(now() > a.started_at + interval '1 millisecond'
      * (coalesce(v.init_timeout_ms + v.timeout_ms, j.init_timeout_ms + j.timeout_ms, ${BUDGET_MAX_MS}::integer)
        + ${OVERDUE_AFTER_MS}::integer), false) as overdue
    from async_invocations a
    left join functions f on f.id = a.function_id
    left join nodes n on n.id = a.node_id
    left join versions v on v.id = coalesce(a.version_id, f.latest_version_id)
    left join lateral (${jobOf(sql, 'a')}) j on true`;
}
