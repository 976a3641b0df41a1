import { randomUUID } from 'node:crypto';
import type { Database } from '../db/database.js';
import { notice } from '../db/notification-listener.js';
import { insertEvents } from './node-events.js';
import { nodeNotFound } from './node-store.js';

export interface DrainRequest {
  /** From now; null has none. */
  readonly deadlineMs: number | null;
  readonly message: string | null;
  /** Whether its checks were overridden: for the record. */
  readonly forced: boolean;
}

/** What an agent reported of its drain, checked. */
export interface DrainReport {
  readonly drainId: string;
  readonly inFlight: number;
  readonly sandboxes: number;
  readonly inFlightMs: number;
  readonly deadlineReached: boolean;
  readonly killed: number;
}

const NOTHING_DONE = { deadlineReached: false, killed: 0, requeued: 0 };

/**
 * The states of drains, in `nodes.drain_*`: draining → complete | lost | cancelled.
 *
 * One statement each, which checks the drain's id and state: whatever comes late changes nothing.
 */
export class DrainTable {
  constructor(private readonly database: Database) {}

  /** A node that drains already keeps its id and start. @throws FleetError `node_not_found`, `unavailable` */
  async start(projectId: string, nodeId: string, { deadlineMs, message, forced }: DrainRequest): Promise<void> {
    const rows = await this.database.run(
      'start drain',
      (sql) => sql`
        with changed as (
          update nodes set
            eligible = false,
            drain_id = case when drain_state = 'draining' then drain_id else ${randomUUID()}::uuid end,
            drain_started_at = case when drain_state = 'draining' then drain_started_at else now() end,
            drain_result = case when drain_state = 'draining' then drain_result else ${sql.json(NOTHING_DONE)}::jsonb end,
            drain_deadline_at = now() + ${deadlineMs}::double precision * interval '1 millisecond',
            drain_message = ${message}::text, drain_state = 'draining', drain_ended_at = null
          where id = ${nodeId} and project_id = ${projectId}
          returning id, project_id
        ), noted as (${insertEvents(sql, 'changed', 'drain-started', { deadlineMs, message, forced })})
        select ${notice(sql, 'nodes', nodeId)} from changed`,
    );
    if (rows.length === 0) throw nodeNotFound(nodeId);
  }

  /**
   * Ends a drain that goes on, or the state after one. Does nothing else to a node that does not drain than to let it take
   * work again.
   *
   * @throws FleetError `node_not_found`, `unavailable`
   */
  async cancel(projectId: string, nodeId: string, keepIneligible: boolean): Promise<void> {
    const rows = await this.database.run(
      'cancel drain',
      (sql) => sql`
        with changed as (
          update nodes set
            eligible = case when ${keepIneligible} then eligible else true end,
            drain_ended_at = case when drain_state = 'draining' then now() else drain_ended_at end,
            drain_state = case when drain_state = 'draining' then 'cancelled' else drain_state end
          where id = ${nodeId} and project_id = ${projectId}
            and (drain_state is not distinct from 'draining' or (not eligible and not ${keepIneligible}))
          returning id, project_id
        ), noted as (${insertEvents(sql, 'changed', 'drain-cancelled', { keepIneligible })})
        select (select ${notice(sql, 'nodes', nodeId)} from changed)
        from nodes where id = ${nodeId} and project_id = ${projectId}`,
    );
    if (rows.length === 0) throw nodeNotFound(nodeId);
  }

  /** Whether that drain goes on. @throws FleetError `unavailable` */
  async progress(nodeId: string, report: DrainReport): Promise<void> {
    const { deadlineReached, killed } = report;
    await this.database.run(
      'record drain progress',
      (sql) => sql`
        with changed as (
          update nodes set drain_result = drain_result || ${sql.json({ deadlineReached, killed })}::jsonb
          where id = ${nodeId} and drain_id = ${report.drainId}::uuid and drain_state = 'draining'
          returning id, project_id
        )
        ${insertEvents(sql, 'changed', 'drain-progress', { ...report })}
        where not exists (
          select 1 from (
            select detail from node_events where node_id = ${nodeId} order by id desc limit 1
          ) newest where newest.detail = ${sql.json({ ...report })}::jsonb
        )`,
    );
  }

  /** On the agent's word. @throws FleetError `unavailable` */
  async complete(nodeId: string, { drainId, deadlineReached, killed }: DrainReport): Promise<boolean> {
    const rows = await this.database.run(
      'complete drain',
      (sql) => sql`
        with changed as (
          update nodes set drain_state = 'complete', drain_ended_at = now(),
            drain_result = drain_result || ${sql.json({ deadlineReached, killed })}::jsonb
          where id = ${nodeId} and drain_id = ${drainId}::uuid and drain_state = 'draining'
          returning id, project_id
        ), noted as (${insertEvents(sql, 'changed', 'drain-completed', { drainId, deadlineReached, killed })})
        select ${notice(sql, 'nodes', nodeId)} from changed`,
    );
    return rows.length > 0;
  }

  /** An async invocation that a draining node did not finish went back to its queue. @throws FleetError `unavailable` */
  async requeued(nodeId: string): Promise<void> {
    await this.database.run(
      'count requeued by drain',
      (sql) => sql`
        update nodes set drain_result =
          jsonb_set(drain_result, '{requeued}', to_jsonb((drain_result->>'requeued')::integer + 1))
        where id = ${nodeId} and drain_state = 'draining'`,
    );
  }

  /**
   * Those that drain, and that nobody has heard of for `lostMs`, are lost. Returns their ids.
   *
   * @param connected nodes that the caller hears of itself
   * @throws FleetError `unavailable`
   */
  async loseSilent(lostMs: number, connected: readonly string[]): Promise<readonly string[]> {
    const rows = await this.database.run(
      'lose draining nodes',
      (sql) => sql<{ id: string }[]>`
        with silent as (
          select id from nodes
          where drain_state = 'draining'
            and greatest(last_seen_at, drain_started_at) < now() - ${lostMs}::double precision * interval '1 millisecond'
            and not ${sql.json([...connected])}::jsonb ? id
          -- In the order of all statements about several nodes; whoever holds one has heard of it.
          order by id for update skip locked
        ), changed as (
          update nodes n set drain_state = 'lost', drain_ended_at = now() from silent where n.id = silent.id
          returning n.id, n.project_id
        ), noted as (${insertEvents(sql, 'changed', 'drain-lost', { silentMs: lostMs })})
        select id, ${notice(sql, 'nodes', sql`id`)} from changed`,
    );
    return rows.map(({ id }) => id);
  }
}
