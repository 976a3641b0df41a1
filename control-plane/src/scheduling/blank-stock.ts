import { PositionSet } from './position-set.js';

/** The nodes that have a prewarmed sandbox of one runtime, isolation and network, by the memory of the functions it can serve. */
export class BlankStock {
  readonly #byMemoryMb = new Map<number, PositionSet>();

  get empty(): boolean {
    return this.#byMemoryMb.size === 0;
  }

  /** Nodes with a blank for functions of exactly this memory; 0 is those whose blanks serve any. */
  of(memoryMb: number): PositionSet | undefined {
    return this.#byMemoryMb.get(memoryMb);
  }

  add(position: number, memoryMb: number): void {
    let set = this.#byMemoryMb.get(memoryMb);
    if (set === undefined) {
      set = new PositionSet();
      this.#byMemoryMb.set(memoryMb, set);
    }
    set.add(position);
  }

  delete(position: number, memoryMb: number): void {
    const set = this.#byMemoryMb.get(memoryMb);
    set?.delete(position);
    if (set?.size === 0) this.#byMemoryMb.delete(memoryMb);
  }
}
