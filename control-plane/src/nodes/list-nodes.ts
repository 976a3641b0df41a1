import type { BlankSandboxes } from '@lambda-fleet/proto';
import type { ConnectedNode, NodeRegistry, SandboxCounts } from './node-registry.js';
import type { NodeStore, StoredNode } from './node-store.js';

/** A node as the API shows it: what is durable, and what is known while it is connected. */
export interface NodeStatus extends StoredNode {
  readonly connected: boolean;
  /** An operator took it out of service, which is only one reason for not being `eligible`. */
  readonly cordoned: boolean;
  /** Its agent is being stopped. */
  readonly leaving: boolean;
  /** Empty while it is not connected. */
  readonly networks: readonly string[];
  readonly builds: boolean;
  /** Null while it is not connected. */
  readonly capacity: {
    readonly memoryBytesTotal: number;
    readonly memoryBytesFree: number;
    readonly slotsTotal: number;
    readonly slotsFree: number;
  } | null;
  readonly sandboxes: SandboxCounts;
  /** Prewarmed sandboxes by kind; `memoryMb` 0 is any. */
  readonly blanks: readonly BlankSandboxes[];
}

const DISCONNECTED = {
  connected: false,
  eligible: false,
  leaving: false,
  networks: [],
  builds: false,
  capacity: null,
  sandboxes: { idle: 0, busy: 0, blank: 0, leaked: 0 },
  blanks: [],
} satisfies Partial<NodeStatus>;

/** @throws FleetError `unavailable` */
export async function listNodes(store: NodeStore, registry: NodeRegistry): Promise<NodeStatus[]> {
  const connected = new Map(registry.list().map((node) => [node.id, node]));
  const stored = await store.list([...connected.keys()]);
  return stored.map((node) => statusOf(node, connected.get(node.id)));
}

/** @throws FleetError `node_not_found`, `unavailable` */
export async function getNode(
  store: NodeStore,
  registry: NodeRegistry,
  projectId: string,
  nodeId: string,
): Promise<NodeStatus> {
  const connected = registry.list().find(({ id }) => id === nodeId);
  return statusOf(await store.get(projectId, nodeId, connected !== undefined), connected);
}

function statusOf(node: StoredNode, now: ConnectedNode | undefined): NodeStatus {
  const cordoned = !node.eligible;
  if (now === undefined) return { ...node, ...DISCONNECTED, cordoned };
  const { memoryBytesTotal, memoryBytesFree, slotsTotal, slotsFree } = now.capacity;
  return {
    ...node,
    connected: true,
    cordoned,
    leaving: now.leaving,
    networks: now.networks,
    builds: now.builds,
    eligible: now.eligible,
    capacity: { memoryBytesTotal, memoryBytesFree, slotsTotal, slotsFree },
    sandboxes: now.sandboxes,
    blanks: now.capacity.blanks,
  };
}
