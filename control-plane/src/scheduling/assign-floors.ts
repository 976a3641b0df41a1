import type { VersionSpec } from '@lambda-fleet/proto';
import type { NodeView } from './cluster-view.js';
import { rendezvousScore } from './rank-nodes.js';

/**
 * Which nodes keep how many sandboxes of a version ready: evenly over the nodes that can run it, beginning with those where
 * its other sandboxes gather, never more on one than it has slots. What fits nowhere is kept nowhere.
 *
 * Pure: same nodes and version, same answer, so that a floor moves only when nodes come or go.
 */
export function assignFloors(
  nodes: readonly NodeView[],
  needs: FloorNeeds,
  isolation: string,
  sandboxes: number,
): ReadonlyMap<string, number> {
  const able = nodesForFloor(nodes, needs, isolation);
  const assigned = new Map<string, number>();
  let left = sandboxes;
  while (left > 0) {
    const before = left;
    for (const node of able) {
      const here = assigned.get(node.id) ?? 0;
      if (left === 0 || here >= node.slotsTotal) continue;
      assigned.set(node.id, here + 1);
      left -= 1;
    }
    if (left === before) break;
  }
  return assigned;
}

/** What a version whose sandboxes are kept ready needs of a node. */
export type FloorNeeds = Pick<VersionSpec, 'functionId' | 'runtime' | 'network'>;

/** The nodes that can keep a floor of this version, the best first. */
export function nodesForFloor(
  nodes: readonly NodeView[],
  { functionId, runtime, network }: FloorNeeds,
  isolation: string,
): readonly NodeView[] {
  return nodes
    .filter((node) => node.runtimes.has(runtime) && node.isolation.has(isolation))
    .filter((node) => node.networks.has(network === '' ? 'none' : network))
    .map((node) => ({ node, score: rendezvousScore(functionId, node.id) }))
    .toSorted((a, b) => b.score - a.score)
    .map(({ node }) => node);
}
