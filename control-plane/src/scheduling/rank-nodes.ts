import type { AbleNodes } from './able-nodes.js';
import type { ClusterView, Demand } from './cluster-view.js';
import { hashOf } from './hash.js';
import type { LabelledNodes } from './labelled-nodes.js';
import type { NodeRooms } from './node-rooms.js';
import type { PositionSet } from './position-set.js';

/** More candidates than this are never tried for one invocation. */
export const CANDIDATES_MAX = 16;

/** A node may be this much busier than the mean before a cold start goes elsewhere. */
const LOAD_BOUND = 1.25;

/** How often a function looks for a node in its own order; it meets one about every third time. */
const STEPS_MAX = 256;

/** With fewer candidates than this, all nodes are looked at. So many are enough, too, where one of them is warm and none refused. */
const CANDIDATES_MIN = 2;

/** Nor is it looked for more nodes when so many were found that way. */
const FOUND_MAX = 64;

/**
 * The ids of the nodes that could take the invocation, best first, at most {@link CANDIDATES_MAX}.
 *
 * Nodes with a warm sandbox of the version that can take it come first, the fullest of them
 * in front so that the others can give theirs up. Then nodes with a blank that fits, then nodes with room for a
 * cold start: among these each function has its own fixed order of nodes ({@link AbleNodes}),
 * so that its sandboxes and its artifact gather on few of them, but a
 * node whose load is over {@link LOAD_BOUND} times the mean yields to a less loaded one.
 *
 * It looks at few nodes, however many there are, and at all of them only when it would find hardly any otherwise: while a node
 * fits it finds one, while a warm one fits a warm one, and while one with a blank fits and no warm one does, one with a blank.
 *
 * `excluded` nodes refused the invocation a moment ago and are left out.
 *
 * Pure: same view and demand, same answer.
 */
export function rankNodes(view: ClusterView, demand: Demand, excluded: ReadonlySet<string> = NOBODY): string[] {
  const able = view.able(demand);
  // A fleet of one machine has no order.
  if (able.size === 1) {
    const only = able.at(0);
    const fits = view.rooms.fits(only, demand.amount) && view.labelled(demand.labels)?.has(only) !== false;
    return fits ? named(view, [only], excluded) : [];
  }
  const ranked = rankWarm(view, able, demand, excluded.size);
  const wanted = ranked.length > 0 && excluded.size === 0 ? CANDIDATES_MIN : CANDIDATES_MAX + excluded.size;
  if (ranked.length < Math.min(wanted, able.size)) {
    const others = rankOthers(view, able, demand, ranked, wanted - ranked.length, excluded.size);
    for (const position of others) ranked.push(position);
  }
  return named(view, ranked, excluded);
}

const NOBODY: ReadonlySet<string> = new Set();

function named(view: ClusterView, positions: readonly number[], excluded: ReadonlySet<string>): string[] {
  const ids: string[] = [];
  for (const position of positions) {
    const id = view.idAt(position);
    if (!excluded.has(id) && ids.push(id) === CANDIDATES_MAX) break;
  }
  return ids;
}

/** What no eligible node has of this demand, however free they are; undefined when one has all of it. */
export function missingFor(view: ClusterView, demand: Demand): string | undefined {
  const { runtime, isolation, network, architecture, labels } = demand;
  const able = view.able(demand);
  if (able.size > 0 && isAnywhere(able, view.labelled(labels))) return undefined;
  if (view.withRuntime(runtime) === 0) return `the runtime ${runtime}`;
  const on = architecture === '' ? '' : ` on ${architecture}`;
  const at = labels.length === 0 ? '' : ` and the labels ${labels.join(', ')}`;
  return `the runtime ${runtime}${on} with isolation ${isolation}${network === 'none' ? '' : ` and network ${network}`}${at}`;
}

function isAnywhere(able: AbleNodes, labelled: LabelledNodes | undefined): boolean {
  if (labelled === undefined) return true;
  for (let index = 0; index < labelled.fewest.size; index += 1) {
    const position = labelled.fewest.at(index);
    if (able.has(position) && labelled.has(position)) return true;
  }
  return false;
}

/** Nodes with a place in a sandbox of the version. Those that got one last are looked at first: see {@link WarmNodes}. */
function rankWarm(view: ClusterView, able: AbleNodes, demand: Demand, excluded: number): number[] {
  const { versionId, concurrency, amount } = demand;
  const { rooms } = view;
  const labelled = view.labelled(demand.labels);
  const found: number[] = [];
  const warm = view.warm(versionId);
  if (warm === undefined) return found;
  for (
    let index = warm.withPlace(concurrency) - 1;
    index >= 0 && found.length < CANDIDATES_MAX + excluded;
    index -= 1
  ) {
    const position = warm.at(index);
    if (able.has(position) && rooms.fits(position, amount) && labelled?.has(position) !== false) found.push(position);
  }
  if (found.length > 1) found.sort((a, b) => rooms.milliSlotsFree(a) - rooms.milliSlotsFree(b));
  return found;
}

/** Nodes for a new sandbox, without those that are warm. */
function rankOthers(
  view: ClusterView,
  able: AbleNodes,
  demand: Demand,
  warm: readonly number[],
  wanted: number,
  excluded: number,
): number[] {
  const { functionId, amount } = demand;
  const hash = hashOf(functionId);
  const labelled = view.labelled(demand.labels);
  const fits = (position: number): boolean =>
    view.rooms.fits(position, amount) && labelled?.has(position) !== false && !warm.includes(position);
  let found = new ColdCandidates(view, demand);
  let all = false;
  able.walk(hash, STEPS_MAX, (position) => {
    if (fits(position)) found.add(position);
    return (warm.length > 0 ? found.size : found.unloaded) < wanted;
  });
  if (warm.length + found.size - excluded < CANDIDATES_MIN) {
    found = new ColdCandidates(view, demand);
    const nodes = labelled?.fewest ?? able;
    const begin = labelled === undefined ? able.indexFrom(hash) : hash;
    let looked = 0;
    for (; looked < nodes.size && found.size < FOUND_MAX; looked += 1) {
      const position = nodes.at((begin + looked) % nodes.size);
      if (able.has(position) && fits(position)) found.add(position);
    }
    all = looked === nodes.size;
  }
  if (!all && warm.length === 0 && !found.hasBlank) addBlanks(view, able, demand, labelled, hash, found);
  return found.ranked();
}

/** Nodes with a blank, of which the function's own order has met none: making a sandbox costs far more than looking at all of them. */
function addBlanks(
  view: ClusterView,
  able: AbleNodes,
  demand: Demand,
  labelled: LabelledNodes | undefined,
  hash: number,
  found: ColdCandidates,
): void {
  const stock = view.blanks(demand);
  const { memoryMb, amount } = demand;
  for (const set of [stock?.of(memoryMb), stock?.of(0)]) {
    if (set === undefined) continue;
    const begin = hash % set.size;
    for (let looked = 0; looked < set.size && found.unloaded < FOUND_MAX; looked += 1) {
      const position = set.at((begin + looked) % set.size);
      if (!able.has(position) || labelled?.has(position) === false) continue;
      if (view.rooms.fits(position, amount)) found.add(position);
    }
    if (found.hasBlank) return;
  }
}

/** Nodes by whether they have a blank and whether they are overloaded. */
class ColdCandidates {
  readonly #rooms: NodeRooms;
  /** Nodes with blanks for functions of any memory, and of this one's. */
  readonly #any: PositionSet | undefined;
  readonly #sized: PositionSet | undefined;
  /** Slots that a node with one slot may have in use: a fraction. */
  readonly #bound: number;
  readonly #blank: number[] = [];
  readonly #blankOverloaded: number[] = [];
  readonly #cold: number[] = [];
  readonly #coldOverloaded: number[] = [];

  constructor(view: ClusterView, demand: Demand) {
    this.#rooms = view.rooms;
    const stock = view.blanks(demand);
    this.#any = stock?.of(0);
    this.#sized = stock?.of(demand.memoryMb);
    this.#bound = (LOAD_BOUND * (view.milliSlotsUsed + 1_000)) / view.milliSlotsTotal;
  }

  get size(): number {
    return this.unloaded + this.#blankOverloaded.length + this.#coldOverloaded.length;
  }

  get unloaded(): number {
    return this.#blank.length + this.#cold.length;
  }

  get hasBlank(): boolean {
    return this.#blank.length + this.#blankOverloaded.length > 0;
  }

  /** In the function's own order. */
  add(position: number): void {
    const total = this.#rooms.milliSlotsTotal(position);
    const used = total - this.#rooms.milliSlotsFree(position) + 1_000;
    // Rounded up, so that an empty fleet has no overloaded node.
    const overloaded = used > Math.ceil((this.#bound * total) / 1_000) * 1_000;
    const blank = this.#any?.has(position) === true || this.#sized?.has(position) === true;
    if (blank) (overloaded ? this.#blankOverloaded : this.#blank).push(position);
    else (overloaded ? this.#coldOverloaded : this.#cold).push(position);
  }

  ranked(): number[] {
    const byLoad = (a: number, b: number): number => this.#load(a) - this.#load(b);
    if (this.#blankOverloaded.length > 1) this.#blankOverloaded.sort(byLoad);
    if (this.#coldOverloaded.length > 1) this.#coldOverloaded.sort(byLoad);
    return [...this.#blank, ...this.#blankOverloaded, ...this.#cold, ...this.#coldOverloaded];
  }

  #load(position: number): number {
    return 1 - this.#rooms.milliSlotsFree(position) / this.#rooms.milliSlotsTotal(position);
  }
}
