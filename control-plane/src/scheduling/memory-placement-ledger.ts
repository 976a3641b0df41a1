import type { PlacementLedger, Reservation } from './placement-ledger.js';

interface NodeAccount {
  memoryBytes: number;
  slots: number;
  memoryBytesReserved: number;
  readonly reservations: Map<string, Reservation>;
}

const NOTHING = { memoryBytes: 0, slots: 0 } as const;

/** The ledger of a control plane with one replica: nothing to agree on with others. */
export class MemoryPlacementLedger implements PlacementLedger {
  readonly #nodes = new Map<string, NodeAccount>();

  setCapacity(nodeId: string, capacity: { readonly memoryBytes: number; readonly slots: number }): void {
    const node = this.#nodes.get(nodeId);
    if (node === undefined) {
      this.#nodes.set(nodeId, { ...capacity, memoryBytesReserved: 0, reservations: new Map() });
      return;
    }
    node.memoryBytes = capacity.memoryBytes;
    node.slots = capacity.slots;
  }

  removeNode(nodeId: string): void {
    this.#nodes.delete(nodeId);
  }

  reserve(invocationId: string, candidates: readonly string[], memoryBytes: number): Reservation | undefined {
    for (const nodeId of candidates) {
      const node = this.#nodes.get(nodeId);
      if (node === undefined || node.reservations.size >= node.slots) continue;
      if (node.memoryBytesReserved + memoryBytes > node.memoryBytes) continue;
      const reservation = { invocationId, nodeId, memoryBytes };
      node.memoryBytesReserved += memoryBytes;
      node.reservations.set(invocationId, reservation);
      return reservation;
    }
    return undefined;
  }

  release(reservation: Reservation): void {
    const node = this.#nodes.get(reservation.nodeId);
    // Compared by identity: after a node was removed and came back, an old reservation must not be subtracted from its new account.
    if (node?.reservations.get(reservation.invocationId) !== reservation) return;
    node.reservations.delete(reservation.invocationId);
    node.memoryBytesReserved -= reservation.memoryBytes;
  }

  free(nodeId: string): { readonly memoryBytes: number; readonly slots: number } {
    const node = this.#nodes.get(nodeId);
    if (node === undefined) return NOTHING;
    return {
      memoryBytes: Math.max(0, node.memoryBytes - node.memoryBytesReserved),
      slots: Math.max(0, node.slots - node.reservations.size),
    };
  }
}
