import { FleetError } from '@lambda-fleet/common/errors';
import type { Hello } from '@lambda-fleet/proto';
import type postgres from 'postgres';
import type { Sql } from '../db/connection-target.js';
import type { Database } from '../db/database.js';
import type { DrainResult, SelfTestCheck } from '../db/node-tables.js';
import { notice } from '../db/notification-listener.js';
import { storableText } from '../db/storable-text.js';
import { insertEvents } from './node-events.js';

/** The project that owns the fleet's nodes. */
const PROJECT = 'default';

/** The newest drain of a node. */
export interface StoredDrain {
  readonly id: string;
  readonly state: 'draining' | 'complete' | 'lost' | 'cancelled';
  readonly startedAt: string;
  /** Null has no deadline. */
  readonly deadlineAt: string | null;
  readonly endedAt: string | null;
  readonly message: string | null;
  readonly result: DrainResult;
  /** What the agent said last, while it drains; null when it has said nothing yet. */
  readonly progress: {
    readonly inFlight: number;
    readonly sandboxes: number;
    readonly inFlightMs: number;
  } | null;
}

/** A node as PostgreSQL knows it, connected or not. */
export interface StoredNode {
  readonly id: string;
  /** False when an operator took it out of service. */
  readonly eligible: boolean;
  readonly labels: Record<string, string>;
  readonly isolation: string[];
  readonly runtimes: { name: string; digest: string }[];
  readonly architecture: string;
  readonly agentVersion: string;
  /** Null from agents that report none. */
  readonly selfTest: SelfTestCheck[] | null;
  /** Null when there never was one. */
  readonly drain: StoredDrain | null;
  readonly firstSeenAt: Date;
  readonly lastSeenAt: Date;
}

/** The durable facts about nodes. */
export class NodeStore {
  constructor(private readonly database: Database) {}

  /** Records what a node said of itself, and that it connected. Changes nothing that operators decide. */
  async recordHello(nodeId: string, hello: Hello): Promise<void> {
    const { labels, isolation, runtimes, architecture, agentVersion, bootId, selfTest } = hello;
    const checks = selfTest.length === 0 ? null : storableChecks(selfTest);
    await this.database.run(
      'record node',
      (sql) => sql`
        with changed as (
          INSERT INTO nodes (id, project_id, labels, isolation, runtimes, architecture, agent_version, self_test)
          VALUES (
            ${nodeId}, ${PROJECT}, ${sql.json(labels)}, ${sql.json(isolation)},
            ${sql.json(runtimes.map(({ name, digest }) => ({ name, digest })))}, ${architecture}, ${agentVersion},
            ${checks === null ? null : sql.json(checks)}
          )
          ON CONFLICT (id) DO UPDATE SET
            labels = excluded.labels, isolation = excluded.isolation, runtimes = excluded.runtimes,
            architecture = excluded.architecture, agent_version = excluded.agent_version,
            self_test = excluded.self_test, last_seen_at = now()
          RETURNING id, project_id
        )
        ${insertEvents(sql, 'changed', 'connected', { agentVersion, bootId })}`,
    );
  }

  /** Records what its agent has tried; once more when it is not known yet. */
  async recordSelfTest(nodeId: string, checks: readonly SelfTestCheck[]): Promise<void> {
    const stored = storableChecks(checks);
    const failed = stored
      .flatMap(({ isolation, check, passed }) => (passed ? [] : [`${isolation}: ${check}`]))
      .join(', ');
    await this.database.run('record self-test', (sql) => {
      const change = sql`
        update nodes set self_test = ${sql.json(stored)}
        where id = ${nodeId} and self_test is distinct from ${sql.json(stored)}::jsonb
        returning id, project_id`;
      if (failed === '') return change;
      return sql`with changed as (${change}) ${insertEvents(sql, 'changed', 'self-test-failed', { failed })}`;
    });
  }

  /**
   * Cordons or uncordons a node; one that is so already stays so.
   *
   * @throws FleetError `node_not_found`, `unavailable`; `conflict` when it is to take work again while it drains
   */
  async setEligible(projectId: string, nodeId: string, eligible: boolean): Promise<void> {
    const [row] = await this.database.run(
      'set node eligible',
      (sql) => sql<{ draining: boolean }[]>`
        with changed as (
          update nodes set eligible = ${eligible}
          where id = ${nodeId} and project_id = ${projectId} and eligible <> ${eligible}
            and not (${eligible} and drain_state is not distinct from 'draining')
          returning id, project_id
        ), noted as (${insertEvents(sql, 'changed', eligible ? 'uncordoned' : 'cordoned', {})})
        select drain_state is not distinct from 'draining' as draining,
          (select ${notice(sql, 'nodes', nodeId)} from changed)
        from nodes where id = ${nodeId} and project_id = ${projectId}`,
    );
    if (row === undefined) throw nodeNotFound(nodeId);
    if (eligible && row.draining) {
      throw new FleetError(
        'conflict',
        `The node ${nodeId} drains, so it takes no new work. Undrain it, or wait until its drain is over.`,
      );
    }
  }

  /** @throws FleetError `node_not_found` (also when it was removed, unless it is connected), `unavailable` */
  async get(projectId: string, nodeId: string, connected = false): Promise<StoredNode> {
    const [row] = await this.database.run(
      'get node',
      (sql) => sql<StoredNode[]>`
        ${columns(sql)} where n.project_id = ${projectId} and n.id = ${nodeId} and (${connected} or ${present(sql)})`,
    );
    if (row === undefined) throw nodeNotFound(nodeId);
    return row;
  }

  /** Without nodes that were removed and have not joined again, unless they are among these, which are connected now. */
  async list(connected: readonly string[] = []): Promise<StoredNode[]> {
    return await this.database.run(
      'list nodes',
      (sql) => sql<StoredNode[]>`
        ${columns(sql)}
        where n.project_id = ${PROJECT}
          and (${present(sql)} or n.id in (select jsonb_array_elements_text(${sql.json([...connected])})))
        order by n.id`,
    );
  }
}

/** An agent tries a few kinds of sandbox, in a few ways each. */
const CHECKS_MAX = 64;
const TEXT_MAX = 500;

/** What an agent says is bounded before it is stored. */
function storableChecks(checks: readonly SelfTestCheck[]) {
  const text = (value: string): string => storableText(value.slice(0, TEXT_MAX));
  return checks.slice(0, CHECKS_MAX).map(({ isolation, check, passed, detail, ms }) => ({
    ...{ isolation: text(isolation), check: text(check), passed, detail: text(detail), ms },
  }));
}

export function nodeNotFound(nodeId: string): FleetError {
  return new FleetError('node_not_found', `There is no node ${nodeId.slice(0, 100)}. \`lambda node ls\` lists them.`);
}

/** Not removed, or joined again since. */
function present(sql: Sql): postgres.PendingQuery<postgres.Row[]> {
  return sql`(n.revoked_at is null or n.certificate_expires_at is not null)`;
}

function columns(sql: Sql): postgres.PendingQuery<postgres.Row[]> {
  return sql`
    select n.id, n.eligible, n.labels, n.isolation, n.runtimes, n.architecture, n.agent_version, n.self_test,
      n.first_seen_at, n.last_seen_at,
      case when n.drain_id is null then null else jsonb_build_object(
        'id', n.drain_id, 'state', n.drain_state, 'startedAt', ${iso(sql, 'drain_started_at')}, 'deadlineAt', ${iso(sql, 'drain_deadline_at')},
        'endedAt', ${iso(sql, 'drain_ended_at')}, 'message', n.drain_message, 'result', n.drain_result,
        'progress', case when n.drain_state = 'draining' then (
          select jsonb_build_object(
            'inFlight', e.detail->'inFlight', 'sandboxes', e.detail->'sandboxes', 'inFlightMs', e.detail->'inFlightMs'
          ) from node_events e
          where e.node_id = n.id and e.kind = 'drain-progress' and e.detail->>'drainId' = n.drain_id::text
          order by e.id desc limit 1
        ) end
      ) end as drain
    from nodes n`;
}

/** As JavaScript writes times: inside JSON the database would write them otherwise. */
function iso(sql: Sql, column: string): postgres.PendingQuery<postgres.Row[]> {
  return sql`to_char(n.${sql(column)} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`;
}
