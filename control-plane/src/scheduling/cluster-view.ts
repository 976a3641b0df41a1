import type { AbleNodes } from './able-nodes.js';
import type { BlankStock } from './blank-stock.js';
import type { LabelledNodes } from './labelled-nodes.js';
import type { NodeRooms } from './node-rooms.js';
import type { WarmNodes } from './warm-nodes.js';

/**
 * What one replica believes about the nodes, kept up to date by events and never
 * by asking. The ranking reads it; the ledger has the last word on this replica's
 * reservations, and the agent has the last word of all.
 *
 * A node has a position, a small whole number that is its own while it is connected: what is searched is kept in arrays by it.
 */
export interface ClusterView {
  /** Connected nodes, eligible or not. */
  readonly size: number;
  readonly rooms: NodeRooms;
  /** Thousandths of a slot, of all eligible nodes together. */
  readonly milliSlotsUsed: number;
  readonly milliSlotsTotal: number;
  idAt(position: number): string;
  /** The eligible nodes that offer all of it, whether or not they have room. */
  able(kind: Kind): AbleNodes;
  /** Prewarmed sandboxes of the kind, on nodes eligible or not. */
  blanks(kind: Pick<Kind, 'runtime' | 'isolation' | 'network'>): BlankStock | undefined;
  /** The nodes, eligible or not, with sandboxes of the version. */
  warm(versionId: string): WarmNodes | undefined;
  /** The eligible nodes with all of these labels, `key=value`; undefined when none is asked for. */
  labelled(labels: readonly string[]): LabelledNodes | undefined;
  /** How many eligible nodes offer the runtime. */
  withRuntime(runtime: string): number;
  /** How many eligible nodes offer the isolation. */
  withIsolation(isolation: string): number;
}

/** What a node can run, for as long as its session lasts. */
export interface NodeOffer {
  readonly runtimes: readonly string[];
  /** `runc`, `gvisor`, `none`. */
  readonly isolation: readonly string[];
  /** `none`, `egress`. */
  readonly networks: readonly string[];
  /** `x64`, `arm64`. */
  readonly architecture: string;
  /** `key=value` */
  readonly labels: readonly string[];
}

/** What a node must offer. */
export interface Kind {
  readonly runtime: string;
  /** Decided: never `auto`. */
  readonly isolation: string;
  readonly network: string;
  /** That of a container image; empty is any. */
  readonly architecture: string;
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
  /** `key=value`; a node must have all of them. */
  readonly labels: readonly string[];
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
