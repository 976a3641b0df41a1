import type { Capacity } from '@lambda-fleet/proto';
import { LOST_MS, type NodeSession, SUSPECT_MS } from './node-session.js';

export interface NodeRegistryEvents {
  /** A node came, went, or changed what it can take. */
  onRoom(nodeId: string): void;
  onGone(nodeId: string): void;
}

/** Who keeps an index of the nodes. It hears of each change before anybody acts on it. */
export interface NodeFollower {
  /** The node's session came, perhaps in place of an earlier one, or reported, or may be given work or not from now on. */
  changed(session: NodeSession): void;
  /** The session's sandboxes of one version, or its invocations in flight, are more or fewer. */
  versionChanged(session: NodeSession, versionId: string): void;
  /** The node's last session is over. */
  gone(session: NodeSession): void;
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
  /** Sessions that nothing was heard of lately, as the follower knows it. */
  readonly #silent = new WeakSet<NodeSession>();
  #follower: NodeFollower | undefined;
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

  /** There is one, from the beginning on. */
  follow(follower: NodeFollower): void {
    this.#follower = follower;
  }

  add(session: NodeSession): void {
    const earlier = this.#sessions.get(session.nodeId);
    this.#sessions.set(session.nodeId, session);
    session.onVersionChange = (versionId) => this.#follower?.versionChanged(session, versionId);
    earlier?.close('the agent connected again');
    this.#changed(session);
  }

  remove(session: NodeSession): void {
    if (this.#sessions.get(session.nodeId) !== session) return;
    this.#sessions.delete(session.nodeId);
    this.#follower?.gone(session);
    this.events.onGone(session.nodeId);
  }

  /** The node's agent reported; ignored when the session was replaced meanwhile. */
  capacityChanged(session: NodeSession): void {
    if (this.#sessions.get(session.nodeId) === session) this.#changed(session);
  }

  setEligible(nodeId: string, eligible: boolean): void {
    if (eligible) this.#ineligible.delete(nodeId);
    else this.#ineligible.add(nodeId);
    const session = this.#sessions.get(nodeId);
    if (session !== undefined) this.#changed(session);
  }

  /** Whether new work may be given to the node: in service, and heard of lately. */
  isEligible(session: NodeSession): boolean {
    if (session.closed || session.leaving || session.silentMs >= SUSPECT_MS) return false;
    // No kind of sandbox has passed the agent's own tests.
    if (session.hello.isolation.length === 0) return false;
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
      else this.#sweepOne(session, now);
    }
  }

  #sweepOne(session: NodeSession, now: number): void {
    session.sweep(now);
    // No event says that a node has fallen silent.
    const silent = session.silentMs >= SUSPECT_MS;
    if (silent === this.#silent.has(session)) return;
    if (silent) this.#silent.add(session);
    else this.#silent.delete(session);
    this.#changed(session);
  }

  #changed(session: NodeSession): void {
    this.#follower?.changed(session);
    this.events.onRoom(session.nodeId);
  }
}
