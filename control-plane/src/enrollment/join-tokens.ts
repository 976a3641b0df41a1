import { createHmac, timingSafeEqual } from 'node:crypto';
import { generateJoinToken, parseJoinToken } from '@lambda-fleet/common/join-token';
import { loadPepper } from '../auth/pepper.js';
import type { Database } from '../db/database.js';

export const EXPIRES_MINUTES_MAX = 15;

/** A new token. Its text is shown once and stored nowhere. */
export interface NewJoinToken {
  readonly id: string;
  readonly token: string;
  readonly expiresAt: Date;
}

/** Why a token lets nobody in. */
export type TokenProblem = 'malformed' | 'unknown' | 'wrong-secret' | 'used' | 'expired';

/** A token whose holder knows its secret, and which was good when it was looked at. */
export interface KnownToken {
  readonly id: string;
  readonly hash: Buffer;
  /** The only id that may be taken with it; null is any that no node has. */
  readonly nodeId: string | null;
}

export interface JoinTokenRequest {
  readonly projectId: string;
  readonly nodeId: string | undefined;
  readonly expiresInMinutes: number;
}

/** The tokens that let machines join. Taking one is {@link Enrollment}'s. */
export class JoinTokens {
  #pepper: Buffer | undefined;

  /** @param pin of the fleet's authority, which the tokens carry */
  constructor(
    private readonly database: Database,
    private readonly pin: string,
  ) {}

  async create({ projectId, nodeId, expiresInMinutes }: JoinTokenRequest): Promise<NewJoinToken> {
    const { id, token } = generateJoinToken(this.pin);
    const hash = await this.#hash(token);
    const [row] = await this.database.run(
      'create join token',
      (sql) => sql<{ expiresAt: Date }[]>`
        WITH forgotten AS (DELETE FROM join_tokens WHERE expires_at < now() - interval '1 day')
        INSERT INTO join_tokens (id, project_id, hash, node_id, expires_at)
        VALUES (${id}, ${projectId}, ${hash}, ${nodeId ?? null}, now() + ${expiresInMinutes}::int * interval '1 minute')
        RETURNING expires_at`,
    );
    if (row === undefined) throw new Error('the join token was not stored');
    return { id, token, expiresAt: row.expiresAt };
  }

  async find(token: string): Promise<KnownToken | TokenProblem> {
    const parts = parseJoinToken(token);
    if (parts === undefined) return 'malformed';
    const hash = await this.#hash(token);
    const [row] = await this.database.run(
      'find join token',
      (sql) => sql<(KnownToken & { used: boolean; expired: boolean })[]>`
        SELECT id, hash, node_id, used_at IS NOT NULL AS used, expires_at <= now() AS expired
        FROM join_tokens WHERE id = ${parts.id}`,
    );
    if (row === undefined) return 'unknown';
    if (row.hash.length !== hash.length || !timingSafeEqual(row.hash, hash)) return 'wrong-secret';
    if (row.used) return 'used';
    if (row.expired) return 'expired';
    return { id: row.id, hash, nodeId: row.nodeId };
  }

  async #hash(token: string): Promise<Buffer> {
    this.#pepper ??= await loadPepper(this.database);
    return createHmac('sha256', this.#pepper).update(token).digest();
  }
}
