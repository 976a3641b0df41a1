import type { ConcurrencyLimits } from '../admission/concurrency-limits.js';
import type { ClusterView, Demand } from './cluster-view.js';
import type { LimitReached } from './concurrency-counts.js';
import type { IsolationPolicy } from './isolation-policy.js';
import type { NotReserved, PlacementLedger, Reservation } from './placement-ledger.js';
import { missingFor, rankNodes } from './rank-nodes.js';
import { WaitQueue, type WaitQueueOptions } from './wait-queue.js';

/** Why no node could be found. */
export type PlacementFailure =
  /** Too many wait already. */
  | 'queue_full'
  /** Waited as long as it may. */
  | 'expired'
  /** As many run at once as its function, or its project, may have. */
  | LimitReached
  /** Nodes are connected and none of them has what it needs, so waiting is pointless. */
  | 'impossible';

/** A place for an invocation: what was reserved, and what will isolate it there. */
export interface Placed {
  readonly reservation: Reservation;
  readonly isolation: string;
  /** It was found after a wait for room. */
  readonly waited: boolean;
}

export interface PlacementOptions {
  readonly view: ClusterView;
  readonly isolation: IsolationPolicy;
  readonly ledger: PlacementLedger;
  /** Invocations at once of all functions of the project that have reserved nothing. */
  readonly unreservedOf: (projectId: string) => number;
  readonly queue: WaitQueueOptions;
}

/**
 * Finds a node for an invocation and reserves it, now or when one has room.
 *
 * A reservation belongs to the caller, who releases it exactly once.
 */
export class Placement {
  readonly #queue: WaitQueue<Placed | LimitReached>;

  constructor(private readonly options: PlacementOptions) {
    this.#queue = new WaitQueue(options.queue, (place) => {
      if (typeof place !== 'string') this.options.ledger.release(place.reservation);
    });
  }

  /**
   * `excluded` nodes refused this invocation a moment ago; once it has waited, they are asked again.
   * `waitMs` is what is left of its queue budget. Without `limits` it counts for nobody.
   */
  place(
    invocationId: string,
    demand: Demand,
    excluded: ReadonlySet<string> | undefined,
    waitMs: number,
    limits: ConcurrencyLimits | undefined,
  ): Placed | PlacementFailure | Promise<Placed | PlacementFailure> {
    if (limits?.max === 0) return 'function_limit';
    // Whoever waits already goes first: a newcomer that overtook them would starve them.
    if (this.#queue.hasWaiters(demand.functionId)) return this.#wait(invocationId, demand, waitMs, limits);
    const found = this.#attempt(invocationId, demand, excluded, limits, false);
    if (found instanceof Promise) return found.then((now) => now ?? this.#wait(invocationId, demand, waitMs, limits));
    return found ?? this.#wait(invocationId, demand, waitMs, limits);
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

  async #wait(
    invocationId: string,
    demand: Demand,
    waitMs: number,
    limits: ConcurrencyLimits | undefined,
  ): Promise<Placed | PlacementFailure> {
    const { view } = this.options;
    if (view.size > 0 && missingFor(view, this.#decided(demand)) !== undefined) return 'impossible';
    if (waitMs <= 0) return 'expired';
    const waited = await this.#queue.wait(demand.functionId, waitMs, () =>
      this.#attempt(invocationId, demand, undefined, limits, true),
    );
    return waited === 'full' ? 'queue_full' : waited;
  }

  /** Undefined when there is no room. */
  #attempt(
    invocationId: string,
    demand: Demand,
    excluded: ReadonlySet<string> | undefined,
    limits: ConcurrencyLimits | undefined,
    waited: boolean,
  ): Placed | LimitReached | undefined | Promise<Placed | LimitReached | undefined> {
    const { view, ledger, unreservedOf } = this.options;
    // Anew for each attempt: while an invocation waits, nodes come and go.
    const decided = this.#decided(demand);
    const { isolation } = decided;
    const unreservedMax = limits === undefined ? Number.POSITIVE_INFINITY : unreservedOf(limits.projectId);
    const candidates = rankNodes(view, decided, excluded);
    const answer = ledger.reserve({ invocationId, candidates, amount: demand.amount, limits, unreservedMax });
    if (answer instanceof Promise) return answer.then((now) => placed(now, isolation, waited));
    return placed(answer, isolation, waited);
  }
}

function placed(
  answer: Reservation | NotReserved,
  isolation: string,
  waited: boolean,
): Placed | LimitReached | undefined {
  if (typeof answer !== 'string') return { reservation: answer, isolation, waited };
  return answer === 'no_room' ? undefined : answer;
}
