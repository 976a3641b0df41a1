import type { ClusterView, Demand, NodeView } from './cluster-view.js';
import type { IsolationPolicy } from './isolation-policy.js';
import type { PlacementLedger, Reservation } from './placement-ledger.js';
import { missingFor, rankNodes } from './rank-nodes.js';
import { WaitQueue, type WaitQueueOptions } from './wait-queue.js';

/** Why no node could be found. */
export type PlacementFailure =
  /** Too many wait already. */
  | 'queue_full'
  /** Waited as long as it may. */
  | 'expired'
  /** Nodes are connected and none of them has what it needs, so waiting is pointless. */
  | 'impossible';

/** A place for an invocation: what was reserved, and what will isolate it there. */
export interface Placed {
  readonly reservation: Reservation;
  readonly isolation: string;
}

export interface PlacementOptions {
  readonly view: ClusterView;
  readonly isolation: IsolationPolicy;
  readonly ledger: PlacementLedger;
  readonly queue: WaitQueueOptions;
}

/**
 * Finds a node for an invocation and reserves it, now or when one has room.
 *
 * A reservation belongs to the caller, who releases it exactly once.
 */
export class Placement {
  readonly #queue: WaitQueue<Placed>;

  constructor(private readonly options: PlacementOptions) {
    this.#queue = new WaitQueue(options.queue, ({ reservation }) => this.options.ledger.release(reservation));
  }

  /**
   * `excluded` nodes refused this invocation a moment ago; once it has waited, they are asked again.
   * `waitMs` is what is left of its queue budget.
   */
  place(
    invocationId: string,
    demand: Demand,
    excluded: ReadonlySet<string> | undefined,
    waitMs: number,
  ): Placed | PlacementFailure | Promise<Placed | PlacementFailure> {
    // Whoever waits already goes first: a newcomer that overtook them would starve them.
    if (this.#queue.hasWaiters(demand.functionId)) return this.#wait(invocationId, demand, waitMs);
    const found = this.#attempt(invocationId, demand, excluded);
    if (found instanceof Promise) return found.then((now) => now ?? this.#wait(invocationId, demand, waitMs));
    return found ?? this.#wait(invocationId, demand, waitMs);
  }

  /** What the connected nodes lack for it; undefined when nothing. */
  missingFor(demand: Demand): string | undefined {
    return missingFor(this.options.view, this.#decided(demand));
  }

  release({ reservation }: Placed): void {
    this.options.ledger.release(reservation);
    this.#queue.pump();
  }

  /** Some node may have room that it did not have before. */
  roomChanged(): void {
    this.options.isolation.nodesChanged();
    this.#queue.pump();
  }

  #decided(demand: Demand): Demand {
    const isolation = this.options.isolation.isolationOf(demand.isolation, performance.now());
    return isolation === demand.isolation ? demand : { ...demand, isolation };
  }

  async #wait(invocationId: string, demand: Demand, waitMs: number): Promise<Placed | PlacementFailure> {
    const { view } = this.options;
    if (view.size > 0 && missingFor(view, this.#decided(demand)) !== undefined) return 'impossible';
    if (waitMs <= 0) return 'expired';
    const waited = await this.#queue.wait(demand.functionId, waitMs, () =>
      this.#attempt(invocationId, demand, undefined),
    );
    return waited === 'full' ? 'queue_full' : waited;
  }

  #attempt(
    invocationId: string,
    demand: Demand,
    excluded: ReadonlySet<string> | undefined,
  ): Placed | undefined | Promise<Placed | undefined> {
    const { view, ledger } = this.options;
    // Anew for each attempt: while an invocation waits, nodes come and go.
    const decided = this.#decided(demand);
    const { isolation } = decided;
    const ranked = rankNodes(view, decided);
    const candidates = excluded === undefined ? ranked : ranked.filter((node) => !excluded.has(node.id));
    if (candidates.length === 0) return undefined;
    const reserved = ledger.reserve(invocationId, candidates.map(nodeId), demand.amount);
    if (reserved instanceof Promise) return reserved.then((now) => now && { reservation: now, isolation });
    return reserved && { reservation: reserved, isolation };
  }
}

const nodeId = (node: NodeView): string => node.id;
