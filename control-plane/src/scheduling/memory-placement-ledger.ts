import type { Amount, WholeNode } from './cluster-view.js';
import type { PlacementLedger, Reservation } from './placement-ledger.js';

interface NodeAccount {
  memoryBytes: number;
  slots: number;
  memoryBytesReserved: number;
  milliSlotsReserved: number;
  readonly reservations: Map<string, Reservation>;
}

const MILLI = 1_000;
const NOTHING = { memoryBytes: 0, slots: 0 } as const;

/** The ledger of a control plane with one replica: nothing to agree on with others. */
export class MemoryPlacementLedger implements PlacementLedger {
  readonly #nodes = new Map<string, NodeAccount>();
  #changed: (nodeId: string) => void = () => undefined;

  onChange(listener: (nodeId: string) => void): void {
    this.#changed = listener;
  }

  setCapacity(nodeId: string, capacity: { readonly memoryBytes: number; readonly slots: number }): void {
    const node = this.#nodes.get(nodeId);
    if (node === undefined) {
      this.#nodes.set(nodeId, { ...capacity, memoryBytesReserved: 0, milliSlotsReserved: 0, reservations: new Map() });
    } else {
      node.memoryBytes = capacity.memoryBytes;
      node.slots = capacity.slots;
    }
    this.#changed(nodeId);
  }

  removeNode(nodeId: string): void {
    if (this.#nodes.delete(nodeId)) this.#changed(nodeId);
  }

  reserve(invocationId: string, candidates: readonly string[], wanted: Amount | WholeNode): Reservation | undefined {
    for (const nodeId of candidates) {
      const node = this.#nodes.get(nodeId);
      if (node === undefined) continue;
      if (wanted === 'whole-node' && (node.reservations.size > 0 || node.slots === 0)) continue;
      const amount =
        wanted === 'whole-node' ? { memoryBytes: node.memoryBytes, milliSlots: node.slots * MILLI } : wanted;
      if (node.milliSlotsReserved + amount.milliSlots > node.slots * MILLI) continue;
      if (node.memoryBytesReserved + amount.memoryBytes > node.memoryBytes) continue;
      const reservation = { invocationId, nodeId, amount };
      node.memoryBytesReserved += amount.memoryBytes;
      node.milliSlotsReserved += amount.milliSlots;
      node.reservations.set(invocationId, reservation);
      this.#changed(nodeId);
      return reservation;
    }
    return undefined;
  }

  release(reservation: Reservation): void {
    const node = this.#nodes.get(reservation.nodeId);
    // Compared by identity: after a node was removed and came back, an old reservation must not be subtracted from its new account.
    if (node?.reservations.get(reservation.invocationId) !== reservation) return;
    node.reservations.delete(reservation.invocationId);
    node.memoryBytesReserved -= reservation.amount.memoryBytes;
    node.milliSlotsReserved -= reservation.amount.milliSlots;
    this.#changed(reservation.nodeId);
  }

  free(nodeId: string): { readonly memoryBytes: number; readonly slots: number } {
    const node = this.#nodes.get(nodeId);
    if (node === undefined) return NOTHING;
    return {
      memoryBytes: Math.max(0, node.memoryBytes - node.memoryBytesReserved),
      slots: Math.max(0, node.slots - node.milliSlotsReserved / MILLI),
    };
  }
}
