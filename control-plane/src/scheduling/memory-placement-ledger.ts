import type { Amount } from './cluster-view.js';
import { ConcurrencyCounts } from './concurrency-counts.js';
import type {
  NodeCapacity,
  NotReserved,
  PlacementLedger,
  Reservation,
  ReservationRequest,
} from './placement-ledger.js';

interface NodeAccount {
  memoryBytes: number;
  slots: number;
  memoryBytesReserved: number;
  milliSlotsReserved: number;
  readonly reservations: Set<Reservation>;
}

export interface HeldSums {
  readonly nodes: ReadonlyMap<string, Readonly<NodeAccount>>;
  readonly functions: ReadonlyMap<string, number>;
  readonly projects: ReadonlyMap<string, number>;
}

const MILLI = 1_000;
const NOTHING: NodeCapacity = { memoryBytes: 0, slots: 0 };

/** The ledger of a control plane with one replica, with nothing to agree on with others; and what one of several holds itself. */
export class MemoryPlacementLedger implements PlacementLedger {
  readonly #nodes = new Map<string, NodeAccount>();
  readonly #counts = new ConcurrencyCounts();
  #changed: (nodeId: string) => void = () => undefined;

  onChange(listener: (nodeId: string) => void): void {
    this.#changed = listener;
  }

  setCapacity(nodeId: string, capacity: NodeCapacity): void {
    const node = this.#nodes.get(nodeId);
    if (node === undefined) {
      this.#nodes.set(nodeId, {
        ...{ memoryBytes: capacity.memoryBytes, slots: capacity.slots },
        ...{ memoryBytesReserved: 0, milliSlotsReserved: 0, reservations: new Set() },
      });
    } else {
      node.memoryBytes = capacity.memoryBytes;
      node.slots = capacity.slots;
    }
    this.#changed(nodeId);
  }

  /** Returns the reservations that are forgotten with it. */
  removeNode(nodeId: string): readonly Reservation[] {
    const node = this.#nodes.get(nodeId);
    if (node === undefined) return [];
    this.#nodes.delete(nodeId);
    for (const { limits } of node.reservations) if (limits !== undefined) this.#counts.remove(limits);
    this.#changed(nodeId);
    return [...node.reservations];
  }

  reserve(request: ReservationRequest): Reservation | NotReserved {
    const { candidates, amount: wanted, limits } = request;
    const reached = limits && this.#counts.reached(limits, request.unreservedMax);
    if (reached !== undefined) return reached;
    for (const nodeId of candidates) {
      const node = this.#nodes.get(nodeId);
      if (node === undefined) continue;
      if (wanted === 'whole-node' && (node.reservations.size > 0 || node.slots === 0)) continue;
      const amount = wanted === 'whole-node' ? wholeOf(node) : wanted;
      if (node.milliSlotsReserved + amount.milliSlots > node.slots * MILLI) continue;
      if (node.memoryBytesReserved + amount.memoryBytes > node.memoryBytes) continue;
      return this.#take(request, nodeId, node, amount);
    }
    return 'no_room';
  }

  /** Enters what was reserved elsewhere, whether or not it fits. Undefined when there is no such node. */
  enter(request: ReservationRequest, nodeId: string, amount: Amount): Reservation | undefined {
    const node = this.#nodes.get(nodeId);
    return node && this.#take(request, nodeId, node, amount);
  }

  /** False when it is not held any more. */
  release(reservation: Reservation): boolean {
    const node = this.#nodes.get(reservation.nodeId);
    // By identity: after a node was removed and came back, an old reservation must not be subtracted from its new account.
    if (!node?.reservations.delete(reservation)) return false;
    node.memoryBytesReserved -= reservation.amount.memoryBytes;
    node.milliSlotsReserved -= reservation.amount.milliSlots;
    if (reservation.limits !== undefined) this.#counts.remove(reservation.limits);
    this.#changed(reservation.nodeId);
    return true;
  }

  /** All of a node, reserved or not. */
  capacity(nodeId: string): NodeCapacity | undefined {
    return this.#nodes.get(nodeId);
  }

  /** All that is reserved: by node, by function, and by project what is unreserved. */
  get held(): HeldSums {
    return { nodes: this.#nodes, functions: this.#counts.byFunction, projects: this.#counts.unreserved };
  }

  free(nodeId: string): NodeCapacity {
    const node = this.#nodes.get(nodeId);
    if (node === undefined) return NOTHING;
    return {
      memoryBytes: Math.max(0, node.memoryBytes - node.memoryBytesReserved),
      slots: Math.max(0, node.slots - node.milliSlotsReserved / MILLI),
    };
  }

  #take({ invocationId, limits }: ReservationRequest, nodeId: string, node: NodeAccount, amount: Amount): Reservation {
    const reservation: Reservation = { invocationId, nodeId, amount, limits };
    node.memoryBytesReserved += amount.memoryBytes;
    node.milliSlotsReserved += amount.milliSlots;
    node.reservations.add(reservation);
    if (limits !== undefined) this.#counts.add(limits);
    this.#changed(nodeId);
    return reservation;
  }
}

function wholeOf({ memoryBytes, slots }: NodeCapacity): Amount {
  return { memoryBytes, milliSlots: slots * MILLI };
}
