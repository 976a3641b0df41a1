/** What is to happen, by when: a binary heap on virtual time. Of two events at one time, either comes first, but always the same. */
export class EventQueue<T> {
  readonly #times: number[] = [];
  readonly #events: T[] = [];

  /** Virtual milliseconds at which the next event happens; infinite when there is none. */
  get nextAt(): number {
    return this.#times[0] ?? Number.POSITIVE_INFINITY;
  }

  push(at: number, event: T): void {
    let index = this.#times.push(at) - 1;
    this.#events.push(event);
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if ((this.#times[parent] ?? 0) <= at) break;
      this.#swap(index, parent);
      index = parent;
    }
  }

  pop(): T | undefined {
    const [first] = this.#events;
    const at = this.#times.pop();
    const last = this.#events.pop();
    if (this.#times.length === 0 || at === undefined || last === undefined) return first;
    this.#times[0] = at;
    this.#events[0] = last;
    let index = 0;
    for (;;) {
      const left = 2 * index + 1;
      if (left >= this.#times.length) return first;
      const right = left + 1;
      const child = (this.#times[right] ?? Number.POSITIVE_INFINITY) < (this.#times[left] ?? 0) ? right : left;
      if ((this.#times[child] ?? 0) >= at) return first;
      this.#swap(index, child);
      index = child;
    }
  }

  #swap(a: number, b: number): void {
    const [time, event] = [this.#times[a], this.#events[a]];
    if (time === undefined || event === undefined) return;
    this.#times[a] = this.#times[b] ?? 0;
    this.#events[a] = this.#events[b] as T;
    this.#times[b] = time;
    this.#events[b] = event;
  }
}
