import { mixed } from './hash.js';

/** Points on the circle. */
const CIRCLE = 2 ** 32;
/** Odd, so that the steps of one function meet no point of the circle twice. */
const STRIDE = 0x9e3779b1;
/**
 * A function looks at a stretch of the circle that holds this part of a node on average. Longer ones take fewer looks, and more of
 * them hold several nodes, which then share what looks at them.
 */
const STRETCH = 1 / 2;
/** To meet so many nodes in its order a function looks so often for each of them, and so often at least. */
const STEPS_PER_NODE = 16;
const STEPS_MIN = 64;

/**
 * The eligible nodes that can run one kind of function, on a circle of 2^32 points, each at the point that is its id's hash.
 *
 * Each function has its own fixed order of them: it looks at one short stretch of the circle after the other, which are spread over
 * it at random and are the same for ever, and takes the nodes that it finds there. When a node comes or goes only those functions
 * notice that look at its place, and all of the nodes are found first by equally many functions. The order depends on which nodes
 * there are and on nothing else, so that replicas agree on it.
 */
export class AbleNodes {
  /** Ascending. */
  #points = new Uint32Array(16);
  #positions = new Int32Array(16);
  #size = 0;
  /** Position → 0 when it is not here, else the last walk that met it. */
  #metIn = new Uint32Array(16);
  #walks = 1;
  /** How many points there are before each of equally long parts of the circle. */
  #begins = new Int32Array(16);
  #shift = 28;

  get size(): number {
    return this.#size;
  }

  has(position: number): boolean {
    return (this.#metIn[position] ?? 0) !== 0;
  }

  /** In the order of the circle, by an index from 0 to size - 1. */
  at(index: number): number {
    return this.#positions[index] ?? -1;
  }

  add(position: number, point: number): void {
    if (this.has(position)) return;
    if (this.#size === this.#points.length) this.#grow();
    while (position >= this.#metIn.length) this.#metIn = doubled(this.#metIn);
    const index = this.indexFrom(point);
    this.#points.copyWithin(index + 1, index, this.#size);
    this.#positions.copyWithin(index + 1, index, this.#size);
    this.#points[index] = point;
    this.#positions[index] = position;
    this.#metIn[position] = 1;
    this.#size += 1;
    this.#shiftBegins(point, 1);
  }

  delete(position: number, point: number): void {
    if (!this.has(position)) return;
    let index = this.indexFrom(point);
    while (this.#positions[index] !== position) index += 1;
    this.#points.copyWithin(index, index + 1, this.#size);
    this.#positions.copyWithin(index, index + 1, this.#size);
    this.#metIn[position] = 0;
    this.#size -= 1;
    this.#shiftBegins(point, -1);
  }

  /**
   * Visits nodes in the order of the function whose hash this is, each once, until `visit` returns false, all were met, or it has
   * looked `steps` times. `visit` must not walk.
   */
  walk(hash: number, steps: number, visit: (position: number) => boolean): void {
    const walk = this.#nextWalk();
    const width = Math.ceil((CIRCLE * STRETCH) / this.#size);
    let met = 0;
    for (let step = 0; step < steps && met < this.#size; step += 1) {
      const position = this.#find(hash, mixed(hash + Math.imul(step, STRIDE)), width);
      if (position === -1 || this.#metIn[position] === walk) continue;
      this.#metIn[position] = walk;
      met += 1;
      if (!visit(position)) return;
    }
  }

  /** The first `count` nodes of the function's order that are wanted, or all of them. */
  inOrder(hash: number, count: number, wanted: (position: number) => boolean): number[] {
    const found: number[] = [];
    const take = (position: number): boolean => {
      if (wanted(position)) found.push(position);
      return found.length < count;
    };
    this.walk(hash, STEPS_PER_NODE * Math.min(count, this.#size) + STEPS_MIN, take);
    if (found.length >= count) return found;
    // What its steps did not meet comes last, as it stands on the circle from the function on.
    const begin = this.indexFrom(hash);
    for (let n = 0; n < this.#size && found.length < count; n += 1) {
      const position = this.at((begin + n) % this.#size);
      if (this.#metIn[position] !== this.#walks) take(position);
    }
    return found;
  }

  /** Index of the first node at the point or behind it; size when there is none up to the end of the circle. */
  indexFrom(point: number): number {
    let index = this.#begins[this.#partOf(point)] ?? 0;
    while (index < this.#size && (this.#points[index] ?? 0) < point) index += 1;
    return index;
  }

  /** The node in this stretch of the circle, -1 when there is none. Of several, each is the function's with the same probability. */
  #find(hash: number, from: number, width: number): number {
    let found = -1;
    let best = -1;
    let index = this.indexFrom(from);
    // Behind the last point comes the first.
    let round = 0;
    for (let met = 0; met < this.#size; met += 1) {
      if (index === this.#size) {
        index = 0;
        round = CIRCLE;
      }
      const point = this.#points[index] ?? 0;
      if (point + round - from >= width) break;
      const score = mixed(hash ^ point);
      if (score > best) {
        best = score;
        found = this.#positions[index] ?? -1;
      }
      index += 1;
    }
    return found;
  }

  #nextWalk(): number {
    this.#walks += 1;
    if (this.#walks === CIRCLE - 1) {
      for (let i = 0; i < this.#size; i += 1) this.#metIn[this.at(i)] = 1;
      this.#walks = 2;
    }
    return this.#walks;
  }

  /** There are as many parts as there is space for points, a power of two. */
  #partOf(point: number): number {
    return point >>> this.#shift;
  }

  #shiftBegins(point: number, by: number): void {
    for (let part = this.#partOf(point) + 1; part < this.#begins.length; part += 1) {
      this.#begins[part] = (this.#begins[part] ?? 0) + by;
    }
  }

  #grow(): void {
    this.#points = doubled(this.#points);
    const positions = new Int32Array(this.#points.length);
    positions.set(this.#positions);
    this.#positions = positions;
    this.#shift -= 1;
    this.#begins = new Int32Array(this.#points.length);
    for (let part = 0, index = 0; part < this.#begins.length; part += 1) {
      while (index < this.#size && this.#partOf(this.#points[index] ?? 0) < part) index += 1;
      this.#begins[part] = index;
    }
  }
}

function doubled(values: Uint32Array): Uint32Array<ArrayBuffer> {
  const larger = new Uint32Array(values.length * 2);
  larger.set(values);
  return larger;
}
