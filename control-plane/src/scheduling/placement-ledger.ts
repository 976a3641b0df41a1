import type { ConcurrencyLimits } from '../admission/concurrency-limits.js';
import type { Amount, WholeNode } from './cluster-view.js';
import type { LimitReached } from './concurrency-counts.js';

/** A claim on one node's memory and on a slot or a part of one, for one invocation, which counts as in progress meanwhile. */
export interface Reservation {
  readonly invocationId: string;
  readonly nodeId: string;
  readonly amount: Amount;
  /** Where it is counted. Undefined: nowhere. */
  readonly limits: ConcurrencyLimits | undefined;
}

export interface ReservationRequest {
  readonly invocationId: string;
  /** Node ids, best first. Without any, only the limits are looked at. */
  readonly candidates: readonly string[];
  readonly amount: Amount | WholeNode;
  /** Undefined for what counts for nobody, as a check of code does. */
  readonly limits: ConcurrencyLimits | undefined;
  /** Invocations at once of all functions of the project that have reserved nothing. */
  readonly unreservedMax: number;
}

export type NotReserved = 'no_room' | LimitReached;

/** What is on a node in all: bytes of memory, and sandboxes. */
export interface NodeCapacity {
  readonly memoryBytes: number;
  readonly slots: number;
}

/**
 * Commits reservations atomically among all replicas that share it, within what nodes have and within the limits of
 * functions and projects, in one step.
 *
 * Contract, for every implementation (`placement-ledger.contract.test.ts`):
 * - `reserve` takes the first candidate that still has the amount, or none.
 * - A whole node is taken only while nothing is reserved there, and then nothing fits beside it.
 * - What was reserved and not released never exceeds a node's capacity at the time of the reservation.
 * - A limit that is reached is said before that there is no room. What one function has reserved is not taken by others.
 * - `release` returns exactly what was reserved; releasing twice changes nothing.
 * - A capacity that shrinks below what is reserved makes the node full, not negative.
 * - Whatever changes what is free on a node is told to the listener.
 * - An unknown node, or one that was removed, has no room. Reservations of a removed node are forgotten.
 *
 * An implementation that has its state at hand answers at once; callers await only a promise. It never rejects.
 */
export interface PlacementLedger {
  /** Called with the id of a node after what {@link free} says of it has changed. One listener. */
  onChange(listener: (nodeId: string) => void): void;
  setCapacity(nodeId: string, capacity: NodeCapacity): void;
  removeNode(nodeId: string): void;
  reserve(request: ReservationRequest): Reservation | NotReserved | Promise<Reservation | NotReserved>;
  release(reservation: Reservation): void;
  /** What is left on a node as this replica knows it, for its view. */
  free(nodeId: string): NodeCapacity;
}
