import type { VersionSpec } from '@lambda-fleet/proto';
import { nodesForFloor } from './assign-floors.js';
import type { NodeView } from './cluster-view.js';

/** A node that is connected, with what it has in all. */
export interface PlannedNode {
  readonly view: NodeView;
  readonly memoryBytesTotal: number;
}

/** A version of which so many sandboxes are kept ready. */
export interface PlannedFloor {
  readonly spec: VersionSpec;
  /** Decided. */
  readonly isolation: string;
  readonly sandboxes: number;
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
    const leaving = going.reduce((total, { view }) => total + (had.get(view.id) ?? 0), 0);
    const to = [...has]
      .map(([node, count]) => ({ node, sandboxes: count - (had.get(node) ?? 0) }))
      .filter((move) => move.sandboxes > 0);
    if (leaving > 0) moves.push({ functionName: spec.functionName, sandboxes: leaving, to });
  });
  for (const need of needs) {
    const runsOn = (nodes: readonly PlannedNode[]) => nodes.some(({ view }) => canRun(view, need));
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
    nodes.map(({ view, memoryBytesTotal }) => [view.id, { slots: view.slotsTotal, bytes: memoryBytesTotal }]),
  );
  const views = nodes.map(({ view }) => view);
  return floors.map(({ spec, isolation, sandboxes }) => {
    const bytes = spec.memoryMb * BYTES_PER_MB;
    const able = nodesForFloor(views, spec, isolation);
    const kept = new Map<string, number>();
    let missing = sandboxes;
    for (let placed = true; placed && missing > 0; ) {
      placed = false;
      for (const { id } of able) {
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

function canRun(node: NodeView, { runtime, isolation, network, architecture }: FunctionNeeds): boolean {
  if (architecture !== '' && node.architecture !== architecture) return false;
  if (isolation !== 'auto' && !node.isolation.has(isolation)) return false;
  return node.runtimes.has(runtime) && node.networks.has(network);
}

function textOf({ functionName, runtime, isolation, network, architecture }: FunctionNeeds): string {
  const more = [
    ...(isolation === 'auto' ? [] : [`isolation ${isolation}`]),
    ...(network === 'none' ? [] : [`network ${network}`]),
    ...(architecture === '' ? [] : [`architecture ${architecture}`]),
  ];
  return `the runtime ${runtime}${more.length === 0 ? '' : ` with ${more.join(' and ')}`}, which ${functionName} needs`;
}

function sum(counts: ReadonlyMap<string, number>): number {
  return [...counts.values()].reduce((total, count) => total + count, 0);
}
