/** The sandboxes of one version on one node. */
export interface Holding {
  readonly versionId: string;
  readonly position: number;
  /** Idle and busy, as the agent last reported; at least 1. */
  sandboxes: number;
  /** Invocations of the version that this replica has placed there. */
  inFlight: number;
  /** Where {@link WarmNodes} keeps it. */
  index: number;
}

/**
 * The nodes with sandboxes of one version: those with a place in a sandbox first, and of these the one that got its place last
 * at the end. Whoever looks from there uses few sandboxes often, and the others grow old and go.
 */
export class WarmNodes {
  readonly #holdings: Holding[] = [];
  /** Of the holdings: the ranking reads many, and finds them side by side. */
  readonly #positions: number[] = [];
  #withPlace = 0;
  #concurrency = 1;

  get size(): number {
    return this.#holdings.length;
  }

  /**
   * How many nodes have a place, when so many invocations share a sandbox. That is the same for the life of a version, and is not
   * known before somebody asks.
   */
  withPlace(concurrency: number): number {
    if (concurrency !== this.#concurrency) {
      this.#concurrency = concurrency;
      for (const holding of [...this.#holdings]) this.changed(holding);
    }
    return this.#withPlace;
  }

  /** The position of a node, by an index from 0 to {@link withPlace} - 1. */
  at(index: number): number {
    return this.#positions[index] ?? -1;
  }

  add(holding: Holding): void {
    holding.index = this.#holdings.push(holding) - 1;
    this.#positions.push(holding.position);
    this.changed(holding);
  }

  /** Its sandboxes or its invocations in flight are others now. */
  changed(holding: Holding): void {
    const hasPlace = holding.sandboxes * this.#concurrency > holding.inFlight;
    if (hasPlace === holding.index < this.#withPlace) return;
    if (hasPlace) {
      this.#swap(holding.index, this.#withPlace);
      this.#withPlace += 1;
    } else {
      this.#withPlace -= 1;
      this.#swap(holding.index, this.#withPlace);
    }
  }

  delete(holding: Holding): void {
    holding.sandboxes = 0;
    holding.inFlight = 0;
    this.changed(holding);
    this.#swap(holding.index, this.#holdings.length - 1);
    this.#holdings.pop();
    this.#positions.pop();
  }

  #swap(from: number, to: number): void {
    const a = this.#holdings[from];
    const b = this.#holdings[to];
    if (a === undefined || b === undefined) return;
    this.#holdings[from] = b;
    this.#holdings[to] = a;
    this.#positions[from] = b.position;
    this.#positions[to] = a.position;
    b.index = from;
    a.index = to;
  }
}
