import type { VersionSpec } from '@lambda-fleet/proto';
import type { ClusterView, Kind } from './cluster-view.js';
import { hashOf } from './hash.js';

/**
 * Which nodes keep how many sandboxes of a version ready: evenly over the eligible nodes that can run it, beginning with those where
 * its other sandboxes gather, never more on one than it has slots. What fits nowhere is kept nowhere.
 *
 * Pure: same nodes and version, same answer, so that a floor moves only when nodes come or go. It looks at about as many nodes as
 * there are sandboxes.
 */
export function assignFloors(
  view: ClusterView,
  needs: FloorNeeds,
  isolation: string,
  sandboxes: number,
  labels: readonly string[],
): ReadonlyMap<string, number> {
  const able = view.able(kindOfFloor(needs, isolation));
  const labelled = view.labelled(labels);
  const slotsOf = (position: number): number => view.rooms.milliSlotsTotal(position) / 1_000;
  const nodes = able
    .inOrder(
      hashOf(needs.functionId),
      sandboxes,
      (position) => slotsOf(position) > 0 && labelled?.has(position) !== false,
    )
    .map((position) => ({ id: view.idAt(position), slots: slotsOf(position), sandboxes: 0 }));
  let left = sandboxes;
  for (let before = -1; left > 0 && left !== before; ) {
    before = left;
    for (const node of nodes) {
      if (left === 0 || node.sandboxes >= node.slots) continue;
      node.sandboxes += 1;
      left -= 1;
    }
  }
  return new Map(nodes.map(({ id, sandboxes: here }) => [id, here]));
}

/** What a version whose sandboxes are kept ready needs of a node. */
export type FloorNeeds = Pick<VersionSpec, 'functionId' | 'runtime' | 'network' | 'image'>;

export function kindOfFloor({ runtime, network, image }: FloorNeeds, isolation: string): Kind {
  return {
    ...{ runtime, isolation },
    network: network === '' ? 'none' : network,
    architecture: image?.architecture ?? '',
  };
}
