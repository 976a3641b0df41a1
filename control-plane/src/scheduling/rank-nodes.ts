import { createHash } from 'node:crypto';
import type { ClusterView, Demand, NodeView } from './cluster-view.js';

/** More candidates than this are never tried for one invocation. */
export const CANDIDATES_MAX = 16;

/** A node may be this much busier than the mean before a cold start goes elsewhere. */
const LOAD_BOUND = 1.25;

/**
 * The nodes that could take the invocation, best first, at most {@link CANDIDATES_MAX}.
 *
 * Nodes with an idle warm sandbox of the version come first, the fullest of them
 * in front so that the others can give theirs up. Then nodes with room for a
 * cold start: each function has its own fixed order of nodes (rendezvous
 * hashing), so that its sandboxes and its artifact gather on few of them, but a
 * node whose load is over {@link LOAD_BOUND} times the mean yields to a less loaded one.
 *
 * Pure: same view and demand, same answer.
 */
export function rankNodes(view: ClusterView, demand: Demand): NodeView[] {
  const warm: NodeView[] = [];
  const cold: NodeView[] = [];
  let used = 0;
  let total = 0;
  for (const node of view.nodes) {
    if (!node.eligible) continue;
    used += node.slotsTotal - node.slotsFree;
    total += node.slotsTotal;
    if (!fits(node, demand)) continue;
    if (node.sandboxesOf(demand.versionId) > node.inFlightOf(demand.versionId)) warm.push(node);
    else cold.push(node);
  }
  if (warm.length + cold.length < 2) return warm.length > 0 ? warm : cold;
  warm.sort((a, b) => a.slotsFree - b.slotsFree);
  const scored = cold.map((node) => {
    const usedHere = node.slotsTotal - node.slotsFree + 1;
    // Rounded up, so that an empty fleet has no overloaded node.
    const bound = Math.ceil((LOAD_BOUND * (used + 1) * node.slotsTotal) / total);
    const score = rendezvousScore(demand.functionId, node.id);
    return { node, load: usedHere / node.slotsTotal, overloaded: usedHere > bound, score };
  });
  scored.sort((a, b) => {
    if (a.overloaded !== b.overloaded) return a.overloaded ? 1 : -1;
    return a.overloaded ? a.load - b.load : b.score - a.score;
  });
  return [...warm, ...scored.map(({ node }) => node)].slice(0, CANDIDATES_MAX);
}

/** Whether some node runs this runtime at all, however busy it is. */
export function offersRuntime(view: ClusterView, runtime: string): boolean {
  for (const node of view.nodes) {
    if (node.eligible && node.runtimes.has(runtime)) return true;
  }
  return false;
}

function fits(node: NodeView, demand: Demand): boolean {
  return node.slotsFree > 0 && node.memoryBytesFree >= demand.memoryBytes && node.runtimes.has(demand.runtime);
}

function rendezvousScore(functionId: string, nodeId: string): number {
  return createHash('sha1').update(functionId).update('\0').update(nodeId).digest().readUInt32BE(0);
}
