import { errorText } from '@lambda-fleet/common/errors';
import type { Logger } from '@lambda-fleet/common/logger';
import type { Database } from '../db/database.js';
import type { NodeRegistry } from './node-registry.js';

/** The newest drain of a node that is out of service. */
export interface DecidedDrain {
  readonly id: string;
  readonly state: 'draining' | 'complete' | 'lost' | 'cancelled';
  /** Of its deadline; null has none. Compared, to find out whether it was changed. */
  readonly deadlineAt: Date | null;
  /** `performance.now()` of its deadline. */
  readonly deadline: number | undefined;
}

/** What operators decided about a node that takes no new work. */
export interface NodeDecision {
  readonly nodeId: string;
  /** Undefined of one that was only cordoned. */
  readonly drain: DecidedDrain | undefined;
}

interface Row {
  readonly id: string;
  readonly drainId: string | null;
  readonly drainState: DecidedDrain['state'] | null;
  readonly drainDeadlineAt: Date | null;
  readonly leftMs: number | null;
}

export interface NodeDecisionsOptions {
  readonly database: Database;
  readonly registry: NodeRegistry;
  /** Called after each look that found something else than the one before. */
  readonly onChanged: () => void;
  readonly log: Logger;
  /** The backstop for lost notices. Default 3 s. */
  readonly pollMs?: number;
}

const POLL_MS = 3_000;

/**
 * What operators decided about nodes, as this replica knows it: which are out of service, and which of these drain.
 *
 * PostgreSQL is asked at each notice, after notices may have been lost, and every few seconds. One look at a time, so that an
 * older answer never overwrites a newer one. While the database is away the last answer counts.
 */
export class NodeDecisions {
  #decisions: ReadonlyMap<string, NodeDecision> = new Map();
  #known = '';
  #looking: Promise<boolean> | undefined;
  #next: Promise<boolean> | undefined;
  readonly #timer: NodeJS.Timeout;

  constructor(private readonly options: NodeDecisionsOptions) {
    this.#timer = setInterval(() => void this.look(), options.pollMs ?? POLL_MS).unref();
  }

  /** Undefined of a node that is in service. */
  of(nodeId: string): NodeDecision | undefined {
    return this.#decisions.get(nodeId);
  }

  close(): void {
    clearInterval(this.#timer);
  }

  /** Resolves when what was committed before this call is known here; with false when it could not be read. Never rejects. */
  look(): Promise<boolean> {
    if (this.#looking === undefined) {
      this.#looking = this.#look().finally(() => {
        this.#looking = undefined;
      });
      return this.#looking;
    }
    // The one under way may have read before the change.
    this.#next ??= this.#looking.then(() => {
      this.#next = undefined;
      return this.look();
    });
    return this.#next;
  }

  async #look(): Promise<boolean> {
    const { database, log } = this.options;
    try {
      this.#apply(
        await database.run(
          'read decisions about nodes',
          (sql) => sql<Row[]>`
            select id, drain_id, drain_state, drain_deadline_at,
              extract(epoch from drain_deadline_at - now())::double precision * 1000 as left_ms
            from nodes
            -- One that was removed and is long gone has nothing decided about it any more.
            where not eligible
              and not (revoked_at is not null and certificate_expires_at is null and last_seen_at < now() - interval '1 day')
            order by id`,
        ),
      );
      return true;
    } catch (err) {
      log.warn({ reason: errorText(err) }, 'decisions_not_read');
      return false;
    }
  }

  #apply(rows: readonly Row[]): void {
    const now = JSON.stringify(rows.map(({ leftMs: _, ...row }) => row));
    if (now === this.#known) return;
    this.#known = now;
    const before = this.#decisions;
    this.#decisions = new Map(rows.map((row) => [row.id, decisionOf(row)]));
    for (const id of before.keys()) if (!this.#decisions.has(id)) this.options.registry.setEligible(id, true);
    for (const id of this.#decisions.keys()) if (!before.has(id)) this.options.registry.setEligible(id, false);
    this.options.onChanged();
  }
}

function decisionOf({ id, drainId, drainState, drainDeadlineAt, leftMs }: Row): NodeDecision {
  if (drainId === null || drainState === null) return { nodeId: id, drain: undefined };
  const deadline = leftMs === null ? undefined : performance.now() + leftMs;
  return { nodeId: id, drain: { id: drainId, state: drainState, deadlineAt: drainDeadlineAt, deadline } };
}
