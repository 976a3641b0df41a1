import { createHash } from 'node:crypto';
import type { ClusterView, Demand, NodeView } from './cluster-view.js';

/** More candidates than this are never tried for one invocation. */
export const CANDIDATES_MAX = 16;

/** A node may be this much busier than the mean before a cold start goes elsewhere. */
const LOAD_BOUND = 1.25;

/**
 * The nodes that could take the invocation, best first, at most {@link CANDIDATES_MAX}.
 *
 * Nodes with a warm sandbox of the version that can take it come first, the fullest of them
 * in front so that the others can give theirs up. Then nodes with a blank that fits, then nodes with room for a
 * cold start: among these each function has its own fixed order of nodes (rendezvous
 * hashing), so that its sandboxes and its artifact gather on few of them, but a
 * node whose load is over {@link LOAD_BOUND} times the mean yields to a less loaded one.
 *
 * Pure: same view and demand, same answer.
 */
export function rankNodes(view: ClusterView, demand: Demand): NodeView[] {
  const warm: NodeView[] = [];
  const others: NodeView[] = [];
  let used = 0;
  let total = 0;
  for (const node of view.nodes) {
    if (!node.eligible) continue;
    used += node.slotsTotal - node.slotsFree;
    total += node.slotsTotal;
    if (!fits(node, demand)) continue;
    const warmPlaces = node.sandboxesOf(demand.versionId) * demand.concurrency;
    if (warmPlaces > node.inFlightOf(demand.versionId)) warm.push(node);
    else others.push(node);
  }
  if (warm.length + others.length < 2) return warm.length > 0 ? warm : others;
  warm.sort((a, b) => a.slotsFree - b.slotsFree);
  const scored = others.map((node) => {
    const usedHere = node.slotsTotal - node.slotsFree + 1;
    // Rounded up, so that an empty fleet has no overloaded node.
    const bound = Math.ceil((LOAD_BOUND * (used + 1) * node.slotsTotal) / total);
    const score = rendezvousScore(demand.functionId, node.id);
    const blank = node.blanksFor(demand) > 0;
    return { node, blank, load: usedHere / node.slotsTotal, overloaded: usedHere > bound, score };
  });
  scored.sort((a, b) => {
    if (a.blank !== b.blank) return a.blank ? -1 : 1;
    if (a.overloaded !== b.overloaded) return a.overloaded ? 1 : -1;
    return a.overloaded ? a.load - b.load : b.score - a.score;
  });
  return [...warm, ...scored.map(({ node }) => node)].slice(0, CANDIDATES_MAX);
}

/** What no eligible node has of this demand, however free they are; undefined when one has all of it. */
export function missingFor(view: ClusterView, demand: Demand): string | undefined {
  const { runtime, isolation, network, architecture } = demand;
  let runs = false;
  for (const node of view.nodes) {
    if (!node.eligible || !node.runtimes.has(runtime)) continue;
    runs = true;
    if (canRun(node, demand)) return undefined;
  }
  if (!runs) return `the runtime ${runtime}`;
  const on = architecture === '' ? '' : ` on ${architecture}`;
  return `the runtime ${runtime}${on} with isolation ${isolation}${network === 'none' ? '' : ` and network ${network}`}`;
}

function canRun(node: NodeView, { runtime, isolation, network, architecture }: Demand): boolean {
  if (architecture !== '' && node.architecture !== architecture) return false;
  return node.runtimes.has(runtime) && node.isolation.has(isolation) && node.networks.has(network);
}

function fits(node: NodeView, demand: Demand): boolean {
  if (demand.amount === 'whole-node') return node.slotsFree === node.slotsTotal && canRun(node, demand);
  const { memoryBytes, milliSlots } = demand.amount;
  return node.slotsFree * 1_000 >= milliSlots && node.memoryBytesFree >= memoryBytes && canRun(node, demand);
}

/** Each function's own fixed order of nodes: the highest score first. */
export function rendezvousScore(functionId: string, nodeId: string): number {
  return createHash('sha1').update(functionId).update('\0').update(nodeId).digest().readUInt32BE(0);
}
