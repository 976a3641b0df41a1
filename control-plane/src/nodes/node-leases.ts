import { errorText, FleetError } from '@lambda-fleet/common/errors';
import type { Logger } from '@lambda-fleet/common/logger';
import type { LeaseTable } from './lease-table.js';
import type { NodeRegistry } from './node-registry.js';
import type { NodeSession } from './node-session.js';
import { knowsLeases } from './welcome.js';

export interface LeaseTimings {
  /** How long a lease lasts after it was renewed, in the database. */
  readonly leaseMs: number;
  /** How long an agent may go on after it sent what was heard of it. Less than a lease, by more than it takes to notice. */
  readonly validMs: number;
  readonly renewMs: number;
}

export const LEASE_TIMINGS: LeaseTimings = { leaseMs: 45_000, validMs: 35_000, renewMs: 5_000 };

export interface NodeLeasesOptions {
  readonly registry: NodeRegistry;
  readonly table: LeaseTable;
  readonly timings: LeaseTimings;
  /** Nodes were declared lost, just now. */
  readonly onLost: (nodeIds: readonly string[]) => void;
  readonly log: Logger;
}

/** A node that has just connected is told at once whether it may go on; many connect together. */
const WELCOME_LINGER_MS = 200;

/**
 * Renews the leases of the nodes that this replica hears, tells their agents, and declares lost whose lease is over.
 *
 * That needs certainty that the database was there for whoever else hears nodes: it is declared only when this replica has
 * renewed for a whole lease without a failure and without a pause. While the database is away nobody can declare a
 * node lost, and the agents are told that their leases are valid still.
 */
export class NodeLeases {
  readonly #epochs = new WeakMap<NodeSession, number>();
  /** Monotonic; undefined: the last renewal failed. */
  #certainSince: number | undefined;
  #renewedAt = 0;
  #running = false;
  #soon: NodeJS.Timeout | undefined;
  readonly #timer: NodeJS.Timeout;

  constructor(private readonly options: NodeLeasesOptions) {
    this.#timer = setInterval(() => void this.#round(), options.timings.renewMs).unref();
  }

  /** A node has connected, and has its row. */
  nodeKnown(): void {
    this.#soon ??= setTimeout(() => {
      this.#soon = undefined;
      if (this.#running) this.nodeKnown();
      else void this.#round();
    }, WELCOME_LINGER_MS).unref();
  }

  close(): void {
    clearInterval(this.#timer);
    clearTimeout(this.#soon);
  }

  /** Never rejects. */
  async #round(): Promise<void> {
    if (this.#running) return;
    this.#running = true;
    try {
      await this.#renew();
      if (this.#isCertain()) await this.#declareLost();
    } catch (err) {
      this.#certainSince = undefined;
      this.options.log.warn({ reason: errorText(err) }, 'node_leases_not_renewed');
    } finally {
      this.#running = false;
    }
  }

  async #renew(): Promise<void> {
    const { registry, table, timings } = this.options;
    const { leaseMs, renewMs } = timings;
    // What an agent may count from was heard before its lease was written.
    const heard = [...registry.sessions()]
      .filter((session) => !session.closed && session.silentMs < 2 * renewMs)
      .map((session) => ({ session, heardMs: session.capacity.sentMs }));
    let epochs: ReadonlyMap<string, number>;
    try {
      const nodes = heard.map(({ session }) => {
        const { nodeId, bootId } = session;
        return { id: nodeId, bootId, fences: knowsLeases(session) };
      });
      epochs = await table.renew(nodes, leaseMs, renewMs / 2);
    } catch (err) {
      if (err instanceof FleetError && err.code === 'unavailable') {
        for (const { session, heardMs } of heard) this.#tell(session, this.#epochs.get(session) ?? 0, heardMs);
      }
      throw err;
    }
    const now = performance.now();
    if (now - this.#renewedAt > 3 * renewMs) this.#certainSince = undefined;
    this.#certainSince ??= now;
    this.#renewedAt = now;
    for (const { session, heardMs } of heard) {
      const epoch = epochs.get(session.nodeId);
      // One that is not written down yet is told in a moment.
      if (epoch !== undefined) this.#tell(session, epoch, heardMs);
    }
  }

  #tell(session: NodeSession, epoch: number, heardMs: number | undefined): void {
    if (session.closed || !knowsLeases(session)) return;
    this.#epochs.set(session, epoch);
    const value = { epoch, validMs: this.options.timings.validMs, heardMs };
    session.send({ message: { $case: 'lease', value } }, 32);
  }

  #isCertain(): boolean {
    return this.#certainSince !== undefined && performance.now() - this.#certainSince > this.options.timings.leaseMs;
  }

  async #declareLost(): Promise<void> {
    const { table, registry, onLost, log } = this.options;
    const lost = await table.declareLost();
    if (lost.length === 0) return;
    log.error({ nodes: lost }, 'nodes_lost');
    // One that was heard of would have been renewed.
    for (const id of lost) registry.session(id)?.close('its lease is over');
    onLost(lost);
  }
}
