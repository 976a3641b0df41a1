/** A set of nodes by position: asked, changed and walked from any of its members in constant time. */
export class PositionSet {
  readonly #members: number[] = [];
  /** Position → index among the members + 1; 0 = not one. */
  #indexes = new Int32Array(16);

  get size(): number {
    return this.#members.length;
  }

  has(position: number): boolean {
    return (this.#indexes[position] ?? 0) !== 0;
  }

  /** `index` is from 0 to size - 1; the order is arbitrary and changes when members do. */
  at(index: number): number {
    return this.#members[index] ?? -1;
  }

  add(position: number): void {
    if (this.has(position)) return;
    while (position >= this.#indexes.length) {
      const larger = new Int32Array(this.#indexes.length * 2);
      larger.set(this.#indexes);
      this.#indexes = larger;
    }
    this.#indexes[position] = this.#members.push(position);
  }

  delete(position: number): void {
    const index = (this.#indexes[position] ?? 0) - 1;
    if (index < 0) return;
    this.#indexes[position] = 0;
    const last = this.#members.pop() ?? position;
    if (last === position) return;
    this.#members[index] = last;
    this.#indexes[last] = index + 1;
  }
}
