import type { NodeRegistry } from '../nodes/node-registry.js';
import type { NodeSession } from '../nodes/node-session.js';
import type { ClusterView, Demand, NodeView } from './cluster-view.js';
import type { PlacementLedger } from './placement-ledger.js';

/** The cluster as the ranking sees it: the connected nodes and what the ledger has left of each. */
export class ConnectedNodesView implements ClusterView {
  readonly #views = new Map<NodeSession, NodeView>();

  constructor(
    private readonly registry: NodeRegistry,
    private readonly ledger: PlacementLedger,
  ) {}

  get size(): number {
    return this.registry.size;
  }

  get nodes(): Iterable<NodeView> {
    return this.#iterate();
  }

  /** Drops what was derived from a session that is over. */
  remove(session: NodeSession): void {
    this.#views.delete(session);
  }

  *#iterate(): Generator<NodeView> {
    for (const session of this.registry.sessions()) {
      let view = this.#views.get(session);
      if (view === undefined) {
        view = new SessionView(session, this.registry, this.ledger);
        this.#views.set(session, view);
      }
      yield view;
    }
  }
}

/** Reads through to the session and the ledger, so that it is never stale and nothing is copied per decision. */
class SessionView implements NodeView {
  readonly id: string;
  readonly runtimes: ReadonlySet<string>;
  readonly isolation: ReadonlySet<string>;
  readonly networks: ReadonlySet<string>;
  readonly architecture: string;

  constructor(
    private readonly session: NodeSession,
    private readonly registry: NodeRegistry,
    private readonly ledger: PlacementLedger,
  ) {
    this.id = session.nodeId;
    this.runtimes = new Set(session.hello.runtimes.map((runtime) => runtime.name));
    this.isolation = new Set(session.hello.isolation);
    this.networks = new Set(session.hello.networks);
    this.architecture = session.hello.architecture;
  }

  get eligible(): boolean {
    return this.registry.isEligible(this.session);
  }

  get memoryBytesFree(): number {
    return this.ledger.free(this.id).memoryBytes;
  }

  get slotsFree(): number {
    return this.ledger.free(this.id).slots;
  }

  get slotsTotal(): number {
    return this.session.capacity.slotsTotal;
  }

  sandboxesOf(versionId: string): number {
    return this.session.sandboxesOf(versionId);
  }

  blanksFor({ runtime, isolation, network, memoryMb }: Demand): number {
    let count = 0;
    for (const blank of this.session.capacity.blanks) {
      if (blank.runtime !== runtime || blank.isolation !== isolation || blank.network !== network) continue;
      if (blank.memoryMb === 0 || blank.memoryMb === memoryMb) count += blank.count;
    }
    return count;
  }

  inFlightOf(versionId: string): number {
    return this.session.inFlightOf(versionId);
  }
}
