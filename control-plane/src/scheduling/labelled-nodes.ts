import type { PositionSet } from './position-set.js';

/** The eligible nodes that have all of some labels. */
export class LabelledNodes {
  /** Of one label; all of them are in it, and perhaps others. */
  readonly fewest: PositionSet;

  /** One set for each label, at least one. */
  constructor(private readonly sets: readonly PositionSet[]) {
    const [first, ...others] = sets;
    if (first === undefined) throw new Error('no labels');
    this.fewest = others.reduce((fewest, set) => (set.size < fewest.size ? set : fewest), first);
  }

  has(position: number): boolean {
    for (const set of this.sets) if (!set.has(position)) return false;
    return true;
  }
}
