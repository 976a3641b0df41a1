import type { Amount, WholeNode } from './cluster-view.js';

/** A claim on one node's memory and on a slot or a part of one, for one invocation. */
export interface Reservation {
  readonly invocationId: string;
  readonly nodeId: string;
  readonly amount: Amount;
}

/**
 * Commits reservations atomically among all replicas that share it.
 *
 * Contract, for every implementation (`placement-ledger.contract.ts`):
 * - `reserve` takes the first candidate that still has the amount, or none.
 * - A whole node is taken only while nothing is reserved there, and then nothing fits beside it.
 * - What was reserved and not released never exceeds a node's capacity at the time of the reservation.
 * - `release` returns exactly what was reserved; releasing twice changes nothing.
 * - A capacity that shrinks below what is reserved makes the node full, not negative.
 * - Whatever changes what is free on a node is told to the listener.
 * - An unknown node, or one that was removed, has no room. Reservations of a removed node are forgotten.
 *
 * An implementation that has its state at hand answers at once; callers await only a promise.
 */
export interface PlacementLedger {
  /** Called with the id of a node after what {@link free} says of it has changed. One listener. */
  onChange(listener: (nodeId: string) => void): void;
  setCapacity(nodeId: string, capacity: { readonly memoryBytes: number; readonly slots: number }): void;
  removeNode(nodeId: string): void;
  reserve(
    invocationId: string,
    candidates: readonly string[],
    amount: Amount | WholeNode,
  ): Reservation | undefined | Promise<Reservation | undefined>;
  release(reservation: Reservation): void;
  /** What is left on a node as this replica knows it, for its view. */
  free(nodeId: string): { readonly memoryBytes: number; readonly slots: number };
}
