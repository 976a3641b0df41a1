import type { Capacity } from '@lambda-fleet/proto';
import { LOST_MS, type NodeSession, SUSPECT_MS } from './node-session.js';

export interface NodeRegistryEvents {
  /** A node came, went, or changed what it can take. */
  onRoom(nodeId: string): void;
  onGone(nodeId: string): void;
}

/** A node as the API shows it while it is connected. */
export interface ConnectedNode {
  readonly id: string;
  readonly eligible: boolean;
  /** Its agent is being stopped. */
  readonly leaving: boolean;
  readonly capacity: Capacity;
  /** `none`, `egress`. */
  readonly networks: readonly string[];
  /** Whether it builds container images. */
  readonly builds: boolean;
  readonly sandboxes: SandboxCounts;
}

export interface SandboxCounts {
  readonly idle: number;
  readonly busy: number;
  /** Prewarmed, without a function. */
  readonly blank: number;
  /** That could not be removed, or that nobody knows. */
  readonly leaked: number;
}

/**
 * The nodes that are connected to this replica, at most one session each.
 *
 * A second session of the same node replaces the first: the agent dials again only
 * when it has given the old connection up, which this side may not have noticed yet.
 */
export class NodeRegistry {
  readonly #sessions = new Map<string, NodeSession>();
  /** Nodes that an operator took out of service; a node is in service until the database says otherwise. */
  readonly #ineligible = new Set<string>();
  readonly #timer: NodeJS.Timeout;

  constructor(private readonly events: NodeRegistryEvents) {
    this.#timer = setInterval(() => this.#sweep(), 1_000);
    this.#timer.unref();
  }

  get size(): number {
    return this.#sessions.size;
  }

  sessions(): IterableIterator<NodeSession> {
    return this.#sessions.values();
  }

  session(nodeId: string): NodeSession | undefined {
    return this.#sessions.get(nodeId);
  }

  add(session: NodeSession): void {
    const earlier = this.#sessions.get(session.nodeId);
    this.#sessions.set(session.nodeId, session);
    earlier?.close('the agent connected again');
    this.events.onRoom(session.nodeId);
  }

  remove(session: NodeSession): void {
    if (this.#sessions.get(session.nodeId) !== session) return;
    this.#sessions.delete(session.nodeId);
    this.events.onGone(session.nodeId);
  }

  /** The node's agent reported; ignored when the session was replaced meanwhile. */
  capacityChanged(session: NodeSession): void {
    if (this.#sessions.get(session.nodeId) === session) this.events.onRoom(session.nodeId);
  }

  setEligible(nodeId: string, eligible: boolean): void {
    if (eligible) this.#ineligible.delete(nodeId);
    else this.#ineligible.add(nodeId);
    this.events.onRoom(nodeId);
  }

  /** Whether new work may be given to the node: in service, and heard of lately. */
  isEligible(session: NodeSession): boolean {
    if (session.closed || session.leaving || session.silentMs >= SUSPECT_MS) return false;
    return !this.#ineligible.has(session.nodeId);
  }

  list(): ConnectedNode[] {
    return [...this.#sessions.values()].map((session) => {
      const sandboxes = { idle: 0, busy: 0, blank: 0, leaked: session.capacity.sandboxesLeaked };
      for (const { count } of session.capacity.blanks) sandboxes.blank += count;
      for (const version of session.capacity.versions) {
        sandboxes.idle += version.idle;
        sandboxes.busy += version.busy;
      }
      const { nodeId, capacity, hello, leaving } = session;
      const { networks, builds } = hello;
      return { id: nodeId, eligible: this.isEligible(session), leaving, capacity, networks, builds, sandboxes };
    });
  }

  forgetVersions(versionIds: string[]): void {
    for (const session of this.#sessions.values()) session.forget(versionIds);
  }

  close(): void {
    clearInterval(this.#timer);
    for (const session of [...this.#sessions.values()]) session.close('the control plane is stopping');
  }

  #sweep(): void {
    const now = performance.now();
    for (const session of [...this.#sessions.values()]) {
      if (session.silentMs > LOST_MS) session.close(`nothing heard for ${LOST_MS / 1000} s`);
      else session.sweep(now);
    }
  }
}
