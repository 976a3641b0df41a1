import type { ClusterView, Demand } from '@lambda-fleet/control-plane/scheduling/cluster-view';
import { hashOf, mixed } from '@lambda-fleet/control-plane/scheduling/hash';
import { rankNodes } from '@lambda-fleet/control-plane/scheduling/rank-nodes';
import { Random } from './random.js';

export type Rank = (view: ClusterView, demand: Demand) => string[];

/** What the product does, and what others do. */
export const RANKINGS: Readonly<Record<string, () => Rank>> = {
  'ours (warm, blank, own order)': () => rankNodes,
  random: () => {
    const random = new Random(7);
    return (view, demand) => best(view, demand, () => random.uniform());
  },
  'least loaded': () => (view, demand) =>
    best(view, demand, (position) => view.rooms.milliSlotsFree(position) / view.rooms.milliSlotsTotal(position)),
  rendezvous: () => (view, demand) => {
    const hash = hashOf(demand.functionId);
    return best(view, demand, (position) => mixed(hash ^ hashOf(view.idAt(position))));
  },
};

/** The node with room that has the highest score. */
function best(view: ClusterView, demand: Demand, score: (position: number) => number): string[] {
  const able = view.able(demand);
  let [found, highest] = [-1, Number.NEGATIVE_INFINITY];
  for (let index = 0; index < able.size; index += 1) {
    const position = able.at(index);
    if (!view.rooms.fits(position, demand.amount)) continue;
    const here = score(position);
    if (here > highest) [found, highest] = [position, here];
  }
  return found === -1 ? [] : [view.idAt(found)];
}
