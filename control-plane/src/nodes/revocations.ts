import { NODE_ID, type NodeCertificate } from '@lambda-fleet/common/certificates/node-certificate';
import { FleetError } from '@lambda-fleet/common/errors';
import type { Logger } from '@lambda-fleet/common/logger';
import type { Database } from '../db/database.js';
import { type NotificationListener, notice } from '../db/notification-listener.js';

export interface RevocationsOptions {
  readonly database: Database;
  readonly notifications: NotificationListener;
  readonly log: Logger;
}

type Peer = Pick<NodeCertificate, 'nodeId' | 'issuedAt'>;

interface Watch {
  readonly peer: Peer;
  readonly cut: () => void;
}

/** A removal holds within 5 s on each replica, though its notice is lost. */
const POLL_MS = 3_000;
/** Statements commit in another order than they begin. */
const MARGIN_MS = 3_600_000;

/**
 * Which certificates count no more, in memory: those that were issued to a node until it was removed.
 *
 * Known from the start, told by notices, and read again every few seconds. What is known stays so while the database is away:
 * a removal is never taken back, only followed by a certificate that was issued after it.
 */
export class Revocations {
  /** By node, Unix milliseconds. */
  readonly #revokedAt = new Map<string, number>();
  readonly #watches = new Set<Watch>();
  /** Unix milliseconds; undefined until all were read. */
  #newest: number | undefined;
  #timer: NodeJS.Timeout | undefined;
  #reading = false;
  #readAgain = false;

  constructor(private readonly options: RevocationsOptions) {
    options.notifications.on('nodes', () => void this.#refresh());
    options.notifications.onRestored(() => void this.#refresh());
  }

  /** Resolves when it knows all: nobody may be let in before. @throws FleetError `unavailable` */
  async start(): Promise<void> {
    await this.#read();
    this.#timer = setInterval(() => void this.#refresh(), POLL_MS).unref();
  }

  close(): void {
    clearInterval(this.#timer);
  }

  isRevoked({ nodeId, issuedAt }: Peer): boolean {
    const revokedAt = this.#revokedAt.get(nodeId);
    return revokedAt !== undefined && issuedAt <= revokedAt;
  }

  /** Calls `cut` once this certificate is revoked, unless the returned function was called before. */
  watch(peer: Peer, cut: () => void): () => void {
    const watch = { peer, cut };
    this.#watches.add(watch);
    return () => void this.#watches.delete(watch);
  }

  /**
   * Removes a node: none of the certificates that it has had counts any more.
   *
   * @throws FleetError `node_not_found`, `unavailable`
   */
  async revoke(projectId: string, nodeId: string): Promise<void> {
    if (!NODE_ID.test(nodeId)) throw notFound(nodeId);
    // A whole second, after this moment and after that of any earlier certificate: those hold whole seconds, and the next one
    // is issued a second later. The row's lock may have been waited for, so it is not the time at which the statement began.
    const [row] = await this.options.database.run(
      'revoke node',
      (sql) => sql<{ revokedAt: Date }[]>`
        WITH node AS (
          UPDATE nodes SET certificate_expires_at = NULL,
            revoked_at = greatest(date_trunc('second', clock_timestamp()), revoked_at + interval '1 second')
              + interval '1 second'
          WHERE id = ${nodeId} AND project_id = ${projectId}
          RETURNING id, project_id, revoked_at
        ), event AS (
          INSERT INTO node_events (project_id, node_id, kind, detail)
          SELECT project_id, id, 'revoked', '{}' FROM node
        )
        SELECT revoked_at, ${notice(sql, 'nodes', nodeId)} FROM node`,
    );
    if (row === undefined) throw notFound(nodeId);
    this.#learn(nodeId, row.revokedAt);
  }

  async #refresh(): Promise<void> {
    if (this.#reading) {
      this.#readAgain = true;
      return;
    }
    this.#reading = true;
    try {
      do {
        this.#readAgain = false;
        await this.#read();
      } while (this.#readAgain);
    } catch (err) {
      // What is known goes on counting; the next round reads again.
      this.options.log.debug({ err }, 'revocations_not_read');
    } finally {
      this.#reading = false;
    }
  }

  /** All at first, then those that are newer than what is known, or nearly as old. */
  async #read(): Promise<void> {
    const since = this.#newest === undefined ? 0 : this.#newest - MARGIN_MS;
    const rows = await this.options.database.run(
      'read revocations',
      (sql) => sql<{ id: string; revokedAt: Date }[]>`
        SELECT id, revoked_at FROM nodes
        WHERE revoked_at > to_timestamp(${since / 1_000}::double precision)`,
    );
    for (const { id, revokedAt } of rows) this.#learn(id, revokedAt);
  }

  /** A reading that began before a removal must not undo it. */
  #learn(nodeId: string, at: Date): void {
    const before = this.#revokedAt.get(nodeId);
    if (before !== undefined && before >= at.getTime()) return;
    this.#revokedAt.set(nodeId, at.getTime());
    this.#newest = Math.max(this.#newest ?? 0, at.getTime());
    // Not of all that ever were removed, at each start.
    if (this.#timer !== undefined) this.options.log.info({ node: nodeId, revokedAt: at.toISOString() }, 'node_revoked');
    for (const watch of [...this.#watches]) {
      if (watch.peer.nodeId !== nodeId || !this.isRevoked(watch.peer)) continue;
      this.#watches.delete(watch);
      watch.cut();
    }
  }
}

function notFound(nodeId: string): FleetError {
  return new FleetError('node_not_found', `There is no node ${nodeId.slice(0, 100)}. \`lambda node ls\` lists them.`);
}
