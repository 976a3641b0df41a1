import type { VersionSpec } from '@lambda-fleet/proto';
import { kindOfFloor } from './assign-floors.js';
import { ClusterIndex } from './cluster-index.js';
import type { NodeOffer } from './cluster-view.js';
import { hashOf } from './hash.js';

/** A node that is connected, with what it has in all. */
export interface PlannedNode {
  readonly id: string;
  readonly offer: NodeOffer;
  readonly slotsTotal: number;
  readonly memoryBytesTotal: number;
}

/** A version of which so many sandboxes are kept ready. */
export interface PlannedFloor {
  readonly spec: VersionSpec;
  /** Decided. */
  readonly isolation: string;
  readonly sandboxes: number;
  /** `key=value`. */
  readonly labels: readonly string[];
}

/** What some function needs of a node. */
export interface FunctionNeeds {
  /** One of those that need it. */
  readonly functionName: string;
  readonly runtime: string;
  /** `auto` is content with any. */
  readonly isolation: string;
  readonly network: string;
  /** Empty is any. */
  readonly architecture: string;
  /** Of the node, all of them. */
  readonly labels: Readonly<Record<string, string>>;
}

/** Why a drain is refused. */
export interface DrainReason {
  readonly check: 'provisioned-floor' | 'min-eligible' | 'no-node';
  readonly message: string;
  /** The flag of `lambda node drain` that overrides it. */
  readonly override: '--force' | '--min-eligible';
}

export interface FloorMove {
  readonly functionName: string;
  readonly sandboxes: number;
  readonly to: readonly { readonly node: string; readonly sandboxes: number }[];
}

export interface DrainPlanInput {
  /** Those that are to be taken out of service, as far as they are connected. */
  readonly going: readonly PlannedNode[];
  /** The eligible ones among the others. */
  readonly staying: readonly PlannedNode[];
  readonly floors: readonly PlannedFloor[];
  readonly needs: readonly FunctionNeeds[];
  readonly minEligible: number;
}

const BYTES_PER_MB = 1024 * 1024;

/** What taking nodes out of service moves, and what it would break. Pure. */
export function planDrain(input: DrainPlanInput): {
  readonly reasons: readonly DrainReason[];
  readonly moves: readonly FloorMove[];
} {
  const { going, staying, floors, needs, minEligible } = input;
  const reasons: DrainReason[] = [];
  if (staying.length < minEligible) {
    const message = `${staying.length} eligible ${staying.length === 1 ? 'node' : 'nodes'} would be left, and at least ${minEligible} must be.`;
    reasons.push({ check: 'min-eligible', message, override: '--min-eligible' });
  }
  const before = keepFloors([...staying, ...going], floors);
  const after = keepFloors(staying, floors);
  const moves: FloorMove[] = [];
  floors.forEach(({ spec, sandboxes }, i) => {
    const [had = NONE, has = NONE] = [before[i], after[i]];
    if (sum(has) < sum(had)) {
      const message = `${spec.functionName} is to have ${sandboxes} sandboxes ready, and the other eligible nodes can keep ${sum(has)}.`;
      reasons.push({ check: 'provisioned-floor', message, override: '--force' });
    }
    const leaving = going.reduce((total, { id }) => total + (had.get(id) ?? 0), 0);
    const to = [...has]
      .map(([node, count]) => ({ node, sandboxes: count - (had.get(node) ?? 0) }))
      .filter((move) => move.sandboxes > 0);
    if (leaving > 0) moves.push({ functionName: spec.functionName, sandboxes: leaving, to });
  });
  for (const need of needs) {
    const runsOn = (nodes: readonly PlannedNode[]) => nodes.some(({ offer }) => canRun(offer, need));
    if (!runsOn(going) || runsOn(staying)) continue;
    reasons.push({ check: 'no-node', message: `No other eligible node has ${textOf(need)}.`, override: '--force' });
  }
  return { reasons, moves };
}

const NONE: ReadonlyMap<string, number> = new Map();

/** For each floor how many sandboxes which node can keep, all floors together. */
function keepFloors(
  nodes: readonly PlannedNode[],
  floors: readonly PlannedFloor[],
): readonly ReadonlyMap<string, number>[] {
  const left = new Map(
    nodes.map(({ id, slotsTotal, memoryBytesTotal }) => [id, { slots: slotsTotal, bytes: memoryBytesTotal }]),
  );
  const index = new ClusterIndex();
  for (const { id, offer } of nodes) index.put(id, offer, true);
  return floors.map(({ spec, isolation, sandboxes, labels }) => {
    const bytes = spec.memoryMb * BYTES_PER_MB;
    // In the order in which they will be told.
    const labelled = index.labelled(labels);
    const able = index
      .able(kindOfFloor(spec, isolation))
      .inOrder(hashOf(spec.functionId), nodes.length, (position) => labelled?.has(position) !== false)
      .map((position) => index.idAt(position));
    const kept = new Map<string, number>();
    let missing = sandboxes;
    for (let placed = true; placed && missing > 0; ) {
      placed = false;
      for (const id of able) {
        const room = left.get(id);
        if (missing === 0 || room === undefined || room.slots < 1 || room.bytes < bytes) continue;
        room.slots -= 1;
        room.bytes -= bytes;
        kept.set(id, (kept.get(id) ?? 0) + 1);
        missing -= 1;
        placed = true;
      }
    }
    return kept;
  });
}

function canRun(offer: NodeOffer, { runtime, isolation, network, architecture, labels }: FunctionNeeds): boolean {
  if (!Object.entries(labels).every(([key, value]) => offer.labels.includes(`${key}=${value}`))) return false;
  if (architecture !== '' && offer.architecture !== architecture) return false;
  if (isolation !== 'auto' && !offer.isolation.includes(isolation)) return false;
  return offer.runtimes.includes(runtime) && offer.networks.includes(network);
}

function textOf({ functionName, runtime, isolation, network, architecture, labels }: FunctionNeeds): string {
  const more = [
    ...(isolation === 'auto' ? [] : [`isolation ${isolation}`]),
    ...(network === 'none' ? [] : [`network ${network}`]),
    ...(architecture === '' ? [] : [`architecture ${architecture}`]),
    ...Object.entries(labels).map(([key, value]) => `label ${key}=${value}`),
  ];
  return `the runtime ${runtime}${more.length === 0 ? '' : ` with ${more.join(' and ')}`}, which ${functionName} needs`;
}

function sum(counts: ReadonlyMap<string, number>): number {
  return [...counts.values()].reduce((total, count) => total + count, 0);
}
