import type { Hello } from '@lambda-fleet/proto';
import type { Database } from '../db/database.js';

/** The project that owns the fleet's nodes. */
const PROJECT = 'default';

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
  readonly lastSeenAt: Date;
}

/** The durable facts about nodes. */
export class NodeStore {
  constructor(private readonly database: Database) {}

  /** Records what a node said of itself and returns whether it may be given work. */
  async recordHello(nodeId: string, hello: Hello): Promise<{ eligible: boolean }> {
    const [row] = await this.database.run(
      'record node',
      (sql) => sql<{ eligible: boolean }[]>`
        INSERT INTO nodes (id, project_id, labels, isolation, runtimes, architecture, agent_version)
        VALUES (
          ${nodeId}, ${PROJECT}, ${sql.json(hello.labels)}, ${sql.json(hello.isolation)},
          ${sql.json(hello.runtimes.map(({ name, digest }) => ({ name, digest })))}, ${hello.architecture},
          ${hello.agentVersion}
        )
        ON CONFLICT (id) DO UPDATE SET
          labels = excluded.labels, isolation = excluded.isolation, runtimes = excluded.runtimes,
          architecture = excluded.architecture, agent_version = excluded.agent_version, last_seen_at = now()
        RETURNING eligible`,
    );
    return { eligible: row?.eligible ?? false };
  }

  /** Without nodes that were removed and have not joined again, unless they are among these, which are connected now. */
  async list(connected: readonly string[] = []): Promise<StoredNode[]> {
    return await this.database.run(
      'list nodes',
      (sql) => sql<StoredNode[]>`
        SELECT id, eligible, labels, isolation, runtimes, architecture, agent_version, last_seen_at
        FROM nodes
        WHERE project_id = ${PROJECT}
          AND (revoked_at IS NULL OR certificate_expires_at IS NOT NULL OR id IN (SELECT jsonb_array_elements_text(${sql.json([...connected])})))
        ORDER BY id`,
    );
  }
}
