import type postgres from 'postgres';
import type { Sql } from '../db/connection-target.js';
import type { Database } from '../db/database.js';

export type NodeEventKind =
  | 'connected'
  | 'disconnected'
  | 'cordoned'
  | 'uncordoned'
  | 'drain-started'
  | 'drain-progress'
  | 'drain-completed'
  | 'drain-cancelled'
  | 'drain-lost'
  | 'leaving'
  | 'self-test-failed';

/** What happened to a node, once. */
export interface NodeEvent {
  readonly id: number;
  readonly at: Date;
  /** One of {@link NodeEventKind}, or one that a newer release wrote. */
  readonly kind: string;
  readonly detail: Readonly<Record<string, unknown>>;
}

type Detail = Readonly<Record<string, string | number | boolean | null>>;

/**
 * The part of a statement that writes an event for each row of `source`, which has the columns `id` and `project_id` of nodes.
 * To be put into a CTE of the statement that makes it happen.
 */
export function insertEvents(
  sql: Sql,
  source: 'changed' | 'nodes',
  kind: NodeEventKind,
  detail: Detail,
): postgres.PendingQuery<postgres.Row[]> {
  return sql`
    insert into node_events (project_id, node_id, kind, detail)
    select project_id, id, ${kind}::text, ${sql.json({ ...detail })}::jsonb from ${sql(source)}`;
}

/** The history of nodes. */
export class NodeEvents {
  constructor(private readonly database: Database) {}

  /** Does nothing for a node that is not recorded. @throws FleetError `unavailable` */
  async record(nodeId: string, kind: NodeEventKind, detail: Detail): Promise<void> {
    await this.database.run(
      'record node event',
      (sql) => sql`${insertEvents(sql, 'nodes', kind, detail)} where id = ${nodeId}`,
    );
  }

  /**
   * Newest first, those before `beforeId` where it is given.
   *
   * @throws FleetError `unavailable`
   */
  list(
    projectId: string,
    nodeId: string,
    { beforeId, limit }: { readonly beforeId?: number | undefined; readonly limit: number },
  ): Promise<readonly NodeEvent[]> {
    return this.database.run(
      'list node events',
      (sql) => sql<NodeEvent[]>`
        select id::double precision as id, at, kind, detail from node_events
        where project_id = ${projectId} and node_id = ${nodeId} and id < ${beforeId ?? Number.MAX_SAFE_INTEGER}::bigint
        order by id desc limit ${limit}`,
    );
  }
}
