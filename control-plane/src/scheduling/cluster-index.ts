import { AbleNodes } from './able-nodes.js';
import { BlankStock } from './blank-stock.js';
import type { ClusterView, Kind, NodeOffer } from './cluster-view.js';
import { hashOf } from './hash.js';
import { LabelledNodes } from './labelled-nodes.js';
import { NodeRooms } from './node-rooms.js';
import { PositionSet } from './position-set.js';
import { type Holding, WarmNodes } from './warm-nodes.js';

/** Kinds of blanks and labels of one node; an agent that reports more is not believed the rest. */
const BLANK_KINDS_MAX = 64;
const LABELS_MAX = 64;

export interface BlankCount {
  readonly runtime: string;
  readonly isolation: string;
  readonly network: string;
  /** That of the functions it can serve; 0 is any. */
  readonly memoryMb: number;
  readonly count: number;
}

interface IndexedNode {
  readonly id: string;
  readonly position: number;
  /** On the circle of {@link AbleNodes}. */
  readonly point: number;
  /** Connected, heard of lately and not cordoned. */
  eligible: boolean;
  offer: NodeOffer;
  readonly holdings: Map<string, Holding>;
  blanks: readonly BlankCount[];
}

interface KindIndex extends Kind {
  readonly nodes: AbleNodes;
}

/**
 * The {@link ClusterView} that is told of each change and puts it where the ranking looks: each change costs what it changes, and no
 * question costs a walk over all nodes.
 *
 * Who tells it owns the truth; told the same again, it changes nothing. What it is told of a node that it does not know is forgotten.
 */
export class ClusterIndex implements ClusterView {
  readonly rooms = new NodeRooms();
  readonly #byId = new Map<string, IndexedNode>();
  /** By position; that of a node that has gone is used again. */
  readonly #ids: string[] = [];
  readonly #freePositions: number[] = [];
  /** By runtime. There are as many as functions differ, not more than there are names. */
  readonly #kinds = new Map<string, KindIndex[]>();
  readonly #blanks = new Map<string, BlankStock>();
  readonly #versions = new Map<string, WarmNodes>();
  readonly #runtimes = new Map<string, number>();
  readonly #isolations = new Map<string, number>();
  /** Of eligible nodes. */
  readonly #labels = new Map<string, PositionSet>();
  #milliSlotsUsed = 0;
  #milliSlotsTotal = 0;

  get size(): number {
    return this.#byId.size;
  }

  get milliSlotsUsed(): number {
    return this.#milliSlotsUsed;
  }

  get milliSlotsTotal(): number {
    return this.#milliSlotsTotal;
  }

  idAt(position: number): string {
    return this.#ids[position] ?? '';
  }

  able({ runtime, isolation, network, architecture }: Kind): AbleNodes {
    const kinds = this.#kinds.get(runtime);
    // A few of each runtime, and this way no key has to be put together for each placement.
    for (const kind of kinds ?? []) {
      if (kind.isolation !== isolation || kind.network !== network || kind.architecture !== architecture) continue;
      return kind.nodes;
    }
    return this.#addKind({ runtime, isolation, network, architecture });
  }

  blanks(kind: Pick<Kind, 'runtime' | 'isolation' | 'network'>): BlankStock | undefined {
    return this.#blanks.get(blankKey(kind));
  }

  warm(versionId: string): WarmNodes | undefined {
    return this.#versions.get(versionId);
  }

  labelled(labels: readonly string[]): LabelledNodes | undefined {
    if (labels.length === 0) return undefined;
    return new LabelledNodes(labels.map((label) => this.#labels.get(label) ?? NOWHERE));
  }

  withRuntime(runtime: string): number {
    return this.#runtimes.get(runtime) ?? 0;
  }

  withIsolation(isolation: string): number {
    return this.#isolations.get(isolation) ?? 0;
  }

  /** A node came, offers something else or may be given work or not. A new one has no room yet. */
  put(id: string, offer: NodeOffer, eligible: boolean): void {
    let node = this.#byId.get(id);
    if (node === undefined) {
      const position = this.#freePositions.pop() ?? this.#ids.length;
      node = { id, position, point: hashOf(id), eligible: false, offer, holdings: new Map(), blanks: [] };
      this.rooms.set(position, 0, 0, 0);
      this.#byId.set(id, node);
      this.#ids[position] = id;
    }
    if (node.eligible === eligible && (node.offer === offer || !eligible)) {
      node.offer = offer;
      return;
    }
    this.#setEligible(node, false);
    node.offer = offer;
    this.#setEligible(node, eligible);
  }

  remove(id: string): void {
    const node = this.#byId.get(id);
    if (node === undefined) return;
    this.#setEligible(node, false);
    for (const versionId of [...node.holdings.keys()]) this.setVersion(id, versionId, 0, 0);
    this.#removeBlanks(node);
    this.#byId.delete(id);
    this.#freePositions.push(node.position);
  }

  /** What is left on a node, which may have said meanwhile that it has more or fewer slots. */
  setRoom(id: string, memoryBytesFree: number, slotsFree: number, slotsTotal?: number): void {
    const node = this.#byId.get(id);
    if (node === undefined) return;
    const { position, eligible } = node;
    const milliSlotsTotal = slotsTotal === undefined ? this.rooms.milliSlotsTotal(position) : slotsTotal * 1_000;
    if (eligible) this.#addToSums(node, -1);
    this.rooms.set(position, memoryBytesFree, Math.round(slotsFree * 1_000), milliSlotsTotal);
    if (eligible) this.#addToSums(node, 1);
  }

  setBlanks(id: string, blanks: readonly BlankCount[]): void {
    const node = this.#byId.get(id);
    if (node === undefined) return;
    this.#removeBlanks(node);
    node.blanks = blanks.filter(({ count }) => count > 0).slice(0, BLANK_KINDS_MAX);
    for (const blank of node.blanks) {
      const key = blankKey(blank);
      const stock = this.#blanks.get(key) ?? new BlankStock();
      this.#blanks.set(key, stock);
      stock.add(node.position, blank.memoryMb);
    }
  }

  /** Sandboxes of a version on a node, idle and busy, and invocations of it that this replica has placed there. */
  setVersion(id: string, versionId: string, sandboxes: number, inFlight: number): void {
    const node = this.#byId.get(id);
    if (node === undefined) return;
    const holding = node.holdings.get(versionId);
    if (holding === undefined) {
      if (sandboxes > 0) this.#addHolding(node, versionId, sandboxes, inFlight);
      return;
    }
    const nodes = this.#versions.get(versionId);
    if (sandboxes > 0) {
      holding.sandboxes = sandboxes;
      holding.inFlight = inFlight;
      nodes?.changed(holding);
      return;
    }
    nodes?.delete(holding);
    node.holdings.delete(versionId);
    if (nodes?.size === 0) this.#versions.delete(versionId);
  }

  /** Whose sandboxes a node has. */
  versionsOf(id: string): Iterable<string> {
    return this.#byId.get(id)?.holdings.keys() ?? [];
  }

  #addHolding(node: IndexedNode, versionId: string, sandboxes: number, inFlight: number): void {
    const holding = { versionId, position: node.position, sandboxes, inFlight, index: -1 };
    let nodes = this.#versions.get(versionId);
    if (nodes === undefined) {
      nodes = new WarmNodes();
      this.#versions.set(versionId, nodes);
    }
    nodes.add(holding);
    node.holdings.set(versionId, holding);
  }

  #removeBlanks(node: IndexedNode): void {
    for (const blank of node.blanks) {
      const key = blankKey(blank);
      const stock = this.#blanks.get(key);
      stock?.delete(node.position, blank.memoryMb);
      if (stock?.empty) this.#blanks.delete(key);
    }
    node.blanks = [];
  }

  #addKind(kind: Kind): AbleNodes {
    const nodes = new AbleNodes();
    for (const node of this.#byId.values()) {
      if (node.eligible && offers(node.offer, kind)) nodes.add(node.position, node.point);
    }
    const kinds = this.#kinds.get(kind.runtime) ?? [];
    kinds.push({ ...kind, nodes });
    this.#kinds.set(kind.runtime, kinds);
    return nodes;
  }

  #setEligible(node: IndexedNode, eligible: boolean): void {
    if (node.eligible === eligible) return;
    node.eligible = eligible;
    const by = eligible ? 1 : -1;
    this.#addToSums(node, by);
    for (const label of node.offer.labels.slice(0, LABELS_MAX)) this.#setLabel(label, node.position, eligible);
    for (const isolation of new Set(node.offer.isolation)) count(this.#isolations, isolation, by);
    for (const runtime of new Set(node.offer.runtimes)) {
      count(this.#runtimes, runtime, by);
      for (const kind of this.#kinds.get(runtime) ?? []) {
        if (!offers(node.offer, kind)) continue;
        if (eligible) kind.nodes.add(node.position, node.point);
        else kind.nodes.delete(node.position, node.point);
      }
    }
  }

  #setLabel(label: string, position: number, has: boolean): void {
    const nodes = this.#labels.get(label) ?? new PositionSet();
    if (has) nodes.add(position);
    else nodes.delete(position);
    if (nodes.size > 0) this.#labels.set(label, nodes);
    else this.#labels.delete(label);
  }

  #addToSums({ position }: IndexedNode, by: 1 | -1): void {
    const total = this.rooms.milliSlotsTotal(position);
    this.#milliSlotsTotal += by * total;
    this.#milliSlotsUsed += by * (total - this.rooms.milliSlotsFree(position));
  }
}

const NOWHERE = new PositionSet();

function blankKey({ runtime, isolation, network }: Pick<Kind, 'runtime' | 'isolation' | 'network'>): string {
  return `${runtime} ${isolation} ${network}`;
}

function offers(offer: NodeOffer, { runtime, isolation, network, architecture }: Kind): boolean {
  if (architecture !== '' && offer.architecture !== architecture) return false;
  return offer.runtimes.includes(runtime) && offer.isolation.includes(isolation) && offer.networks.includes(network);
}

function count(counts: Map<string, number>, key: string, by: 1 | -1): void {
  const now = (counts.get(key) ?? 0) + by;
  if (now === 0) counts.delete(key);
  else counts.set(key, now);
}
