import type { Amount, WholeNode } from './cluster-view.js';

/** Numbers of one node: its free memory, free and total thousandths of slots, and one that is not used. */
const STRIDE = 4;

/** What each node has left, in one array by position: a search that has to look at ten thousand nodes then takes microseconds. */
export class NodeRooms {
  #values = new Float64Array(16 * STRIDE);

  /** Idle sandboxes count as free memory: the agent gives them up on demand. */
  set(position: number, memoryBytesFree: number, milliSlotsFree: number, milliSlotsTotal: number): void {
    const at = position * STRIDE;
    if (at >= this.#values.length) {
      const larger = new Float64Array(this.#values.length * 2);
      larger.set(this.#values);
      this.#values = larger;
    }
    this.#values[at] = memoryBytesFree;
    this.#values[at + 1] = milliSlotsFree;
    this.#values[at + 2] = milliSlotsTotal;
  }

  milliSlotsFree(position: number): number {
    return this.#values[position * STRIDE + 1] ?? 0;
  }

  milliSlotsTotal(position: number): number {
    return this.#values[position * STRIDE + 2] ?? 0;
  }

  fits(position: number, amount: Amount | WholeNode): boolean {
    const free = this.milliSlotsFree(position);
    if (amount === 'whole-node') return free > 0 && free === this.milliSlotsTotal(position);
    return free >= amount.milliSlots && (this.#values[position * STRIDE] ?? 0) >= amount.memoryBytes;
  }
}
