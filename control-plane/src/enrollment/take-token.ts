import type { Database } from '../db/database.js';
import type { KnownToken } from './join-tokens.js';

export interface TakeToken {
  readonly token: KnownToken;
  readonly nodeId: string;
  readonly lifetimeMs: number;
}

/**
 * Takes a token for a node, once, and records in the same statement that the node joined. Returns when its certificate is to expire.
 *
 * A certificate is issued on a whole second and after the one until which the node's earlier certificates are refused: see
 * `nodes/revocations.ts`.
 */
export async function takeToken(
  database: Database,
  { token, nodeId, lifetimeMs }: TakeToken,
): Promise<Date | 'used' | 'id-taken'> {
  const [row] = await database.run(
    'take join token',
    (sql) => sql<{ expiresAt: Date | null; isTaken: boolean }[]>`
      WITH present AS (
        SELECT FROM nodes WHERE id = ${nodeId} AND (revoked_at IS NULL OR certificate_expires_at IS NOT NULL)
      ), token AS (
        UPDATE join_tokens SET used_at = now(), used_by = ${nodeId}
        WHERE id = ${token.id} AND hash = ${token.hash} AND used_at IS NULL AND expires_at > now()
          AND (node_id = ${nodeId} OR (node_id IS NULL AND NOT EXISTS (SELECT FROM present)))
        RETURNING project_id, node_id
      ), node AS (
        INSERT INTO nodes (
          id, project_id, labels, isolation, runtimes, architecture, agent_version, certificate_expires_at
        )
        SELECT ${nodeId}, project_id, '{}', '[]', '[]', '', '',
          date_trunc('second', now()) + ${lifetimeMs}::float8 * interval '1 ms'
        FROM token
        ON CONFLICT (id) DO UPDATE SET certificate_expires_at =
          greatest(date_trunc('second', now()), nodes.revoked_at + interval '1 second')
          + ${lifetimeMs}::float8 * interval '1 ms'
        -- Another machine may have taken the id with another token at this moment. Then this one has none.
        WHERE (SELECT node_id FROM token) IS NOT NULL
          OR (nodes.revoked_at IS NOT NULL AND nodes.certificate_expires_at IS NULL)
        RETURNING id, project_id, certificate_expires_at
      ), event AS (
        INSERT INTO node_events (project_id, node_id, kind, detail)
        SELECT project_id, id, 'joined', ${sql.json({ token: token.id })} FROM node
      )
      SELECT (SELECT certificate_expires_at FROM node) AS expires_at,
        EXISTS (SELECT FROM present) OR EXISTS (SELECT FROM token) AS is_taken`,
  );
  if (row?.expiresAt instanceof Date) return row.expiresAt;
  return row?.isTaken === true && token.nodeId === null ? 'id-taken' : 'used';
}

export interface RenewCertificate {
  readonly nodeId: string;
  /** When the present certificate was issued, Unix milliseconds. */
  readonly issuedAt: number;
  readonly lifetimeMs: number;
}

/** Returns when the node's next certificate is to expire; undefined when it may have none. */
export async function renewCertificate(
  database: Database,
  { nodeId, issuedAt, lifetimeMs }: RenewCertificate,
): Promise<Date | undefined> {
  const [row] = await database.run(
    'renew certificate',
    (sql) => sql<{ certificateExpiresAt: Date }[]>`
      UPDATE nodes SET certificate_expires_at =
        greatest(date_trunc('second', now()), revoked_at + interval '1 second')
        + ${lifetimeMs}::float8 * interval '1 ms'
      WHERE id = ${nodeId} AND (revoked_at IS NULL OR revoked_at < ${new Date(issuedAt)})
      RETURNING certificate_expires_at`,
  );
  return row?.certificateExpiresAt;
}
