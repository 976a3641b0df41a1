/**
 * What one replica believes about the nodes, kept up to date by events and never
 * by asking. The ranking reads it; the ledger has the last word on this replica's
 * reservations, and the agent has the last word of all.
 */
export interface ClusterView {
  readonly nodes: Iterable<NodeView>;
  readonly size: number;
}

export interface NodeView {
  readonly id: string;
  /** Connected, heard of lately and not cordoned. */
  readonly eligible: boolean;
  readonly runtimes: ReadonlySet<string>;
  /** `runc`, `gvisor`, `none`. */
  readonly isolation: ReadonlySet<string>;
  /** `none`, `egress`. */
  readonly networks: ReadonlySet<string>;
  /** `x64`, `arm64`. */
  readonly architecture: string;
  /** Idle sandboxes count as free: the agent gives them up on demand. */
  readonly memoryBytesFree: number;
  readonly slotsFree: number;
  readonly slotsTotal: number;
  /** Sandboxes of the version, idle and busy, that the agent last reported. */
  sandboxesOf(versionId: string): number;
  /** Prewarmed sandboxes, last reported, that could become one for this demand. */
  blanksFor(demand: Demand): number;
  /** Invocations of the version that this replica has placed there. */
  inFlightOf(versionId: string): number;
}

/** What an invocation needs of a node. */
export interface Demand {
  readonly functionId: string;
  readonly versionId: string;
  readonly runtime: string;
  /** `auto` until a placement is attempted. */
  readonly isolation: string;
  readonly network: string;
  /** That of a container image; empty is any. */
  readonly architecture: string;
  readonly memoryMb: number;
  /** Invocations that share a sandbox. */
  readonly concurrency: number;
  /** What one invocation takes of a node: its part of a sandbox, or all of it so that it runs alone there. */
  readonly amount: Amount | WholeNode;
}

/** All of a node, while nothing else is reserved there. */
export type WholeNode = 'whole-node';

export interface Amount {
  readonly memoryBytes: number;
  /** Thousandths of a slot: whole numbers, so that what is given back is exactly what was taken. */
  readonly milliSlots: number;
}
