import type { ConcurrencyLimits } from '../admission/concurrency-limits.js';
import type { Amount } from './cluster-view.js';
import type { HeldSums } from './memory-placement-ledger.js';
import type { Reservation, ReservationRequest } from './placement-ledger.js';

/** What one replica has reserved, as sums by the fields that Redis has of it. What is 0 has no field. */
export interface LedgerPart {
  readonly nodes: ReadonlyMap<string, number>;
  readonly counts: ReadonlyMap<string, number>;
}

export function partOf({ nodes, functions, projects }: HeldSums): LedgerPart {
  const part = { nodes: new Map<string, number>(), counts: new Map<string, number>() };
  for (const [id, { memoryBytesReserved, milliSlotsReserved, reservations }] of nodes) {
    if (memoryBytesReserved > 0) part.nodes.set(`m:${id}`, memoryBytesReserved);
    if (milliSlotsReserved > 0) part.nodes.set(`s:${id}`, milliSlotsReserved);
    if (reservations.size > 0) part.nodes.set(`c:${id}`, reservations.size);
  }
  for (const [id, count] of functions) part.counts.set(`f:${id}`, count);
  for (const [id, count] of projects) part.counts.set(`p:${id}`, count);
  return part;
}

/** @param flat fields and values in turn, as Redis answers */
export function fieldsOf(flat: readonly unknown[]): Map<string, number> {
  const fields = new Map<string, number>();
  for (let at = 0; at + 1 < flat.length; at += 2) fields.set(String(flat[at]), Number(flat[at + 1]));
  return fields;
}

export function isSamePart(a: LedgerPart, b: LedgerPart): boolean {
  return isSame(a.nodes, b.nodes) && isSame(a.counts, b.counts);
}

function isSame(a: ReadonlyMap<string, number>, b: ReadonlyMap<string, number>): boolean {
  if (a.size !== b.size) return false;
  for (const [field, value] of a) if (b.get(field) !== value) return false;
  return true;
}

/** For PUBLISH. */
export function publishArguments({ nodes, counts }: LedgerPart): (string | number)[] {
  return [nodes.size, ...[...nodes].flat(), ...[...counts].flat()];
}

/** For CHANGE: one that was made, or one that is given back. */
export function changeArguments(sign: 1 | -1, { nodeId, amount, limits }: Reservation): (string | number)[] {
  return [sign, nodeId, amount.memoryBytes, amount.milliSlots, ...countedIn(limits)];
}

/** Function and project where it counts, or empty. */
export function countedIn(limits: ConcurrencyLimits | undefined): [string, string] {
  return limits === undefined ? ['', ''] : [limits.functionId, limits.reserved ? '' : limits.projectId];
}

/** What a replica may give by itself when it cannot ask the others: its share of each limit, rounded up. */
export function shareOf(request: ReservationRequest, replicas: number): ReservationRequest {
  const { limits, unreservedMax } = request;
  if (limits === undefined || replicas <= 1) return request;
  const max = limits.max === undefined ? undefined : Math.ceil(limits.max / replicas);
  return { ...request, limits: { ...limits, max }, unreservedMax: Math.ceil(unreservedMax / replicas) };
}

/** What others have reserved on nodes, as Redis last said. */
export class OthersReserved {
  #nodes = new Map<string, Amount>();

  get(nodeId: string): Amount | undefined {
    return this.#nodes.get(nodeId);
  }

  set(nodeId: string, amount: Amount): void {
    this.#nodes.set(nodeId, amount);
  }

  /** Returns the nodes of which something changed, and whether any got more room. */
  replace(all: ReadonlyMap<string, number>, own: ReadonlyMap<string, number>): { changed: string[]; freed: boolean } {
    const before = this.#nodes;
    this.#nodes = new Map();
    for (const field of all.keys()) {
      const nodeId = field.slice(2);
      if (this.#nodes.has(nodeId)) continue;
      const of = (kind: string): number => (all.get(kind + nodeId) ?? 0) - (own.get(kind + nodeId) ?? 0);
      const amount = { memoryBytes: of('m:'), milliSlots: of('s:') };
      if (amount.memoryBytes > 0 || amount.milliSlots > 0) this.#nodes.set(nodeId, amount);
    }
    const changed: string[] = [];
    let freed = false;
    for (const nodeId of new Set([...before.keys(), ...this.#nodes.keys()])) {
      const [was, is] = [before.get(nodeId) ?? NOTHING, this.#nodes.get(nodeId) ?? NOTHING];
      if (was.memoryBytes === is.memoryBytes && was.milliSlots === is.milliSlots) continue;
      changed.push(nodeId);
      freed ||= is.memoryBytes < was.memoryBytes || is.milliSlots < was.milliSlots;
    }
    return { changed, freed };
  }
}

const NOTHING: Amount = { memoryBytes: 0, milliSlots: 0 };
