import type { NodeRegistry } from '../nodes/node-registry.js';
import type { NodeSession } from '../nodes/node-session.js';
import { ClusterIndex } from './cluster-index.js';
import type { NodeOffer } from './cluster-view.js';
import type { PlacementLedger } from './placement-ledger.js';

/** What was last told of a session. */
interface Told {
  readonly session: NodeSession;
  readonly offer: NodeOffer;
  capacity: NodeSession['capacity'] | undefined;
}

/** The cluster as the ranking sees it: the connected nodes, what they reported, and what the ledger has left of each. */
export class ConnectedNodesView extends ClusterIndex {
  readonly #told = new Map<string, Told>();

  constructor(
    private readonly registry: NodeRegistry,
    private readonly ledger: PlacementLedger,
  ) {
    super();
    registry.follow({
      changed: (session) => this.#changed(session),
      versionChanged: (session, versionId) => this.#versionChanged(session, versionId),
      gone: (session) => this.#gone(session),
    });
    ledger.onChange((nodeId) => this.#roomChanged(nodeId));
  }

  #changed(session: NodeSession): void {
    const { nodeId, capacity } = session;
    let told = this.#told.get(nodeId);
    if (told?.session !== session) {
      told = { session, offer: offerOf(session), capacity: undefined };
      this.#told.set(nodeId, told);
    }
    this.put(nodeId, told.offer, this.registry.isEligible(session));
    if (told.capacity === capacity) return;
    told.capacity = capacity;
    this.#roomChanged(nodeId, capacity.slotsTotal);
    this.setBlanks(nodeId, capacity.blanks);
    for (const versionId of this.versionsOf(nodeId)) {
      if (session.sandboxesOf(versionId) === 0) this.setVersion(nodeId, versionId, 0, 0);
    }
    for (const { versionId } of capacity.versions) this.#versionChanged(session, versionId);
  }

  #versionChanged(session: NodeSession, versionId: string): void {
    // One that was replaced still ends what it had in flight.
    if (this.#told.get(session.nodeId)?.session !== session) return;
    this.setVersion(session.nodeId, versionId, session.sandboxesOf(versionId), session.inFlightOf(versionId));
  }

  #roomChanged(nodeId: string, slotsTotal?: number): void {
    const { memoryBytes, slots } = this.ledger.free(nodeId);
    this.setRoom(nodeId, memoryBytes, slots, slotsTotal);
  }

  #gone({ nodeId }: NodeSession): void {
    this.#told.delete(nodeId);
    this.remove(nodeId);
  }
}

export function offerOf({ hello }: NodeSession): NodeOffer {
  const { isolation, networks, architecture } = hello;
  const labels = Object.entries(hello.labels).map(([key, value]) => `${key}=${value}`);
  return { runtimes: hello.runtimes.map(({ name }) => name), isolation, networks, architecture, labels };
}
