/** What can be paused and resumed, such as a stream that is read in flowing mode. */
export interface Pausable {
  pause(): unknown;
  resume(): unknown;
}

/**
 * Lets several readers of one stream pause it: it flows while none of them holds
 * it. Streams themselves know only one pause, which the first resume ends.
 */
export class ReadGate {
  readonly #holders = new Set<string>();

  constructor(private readonly stream: Pausable) {}

  hold(who: string): void {
    this.#holders.add(who);
    this.stream.pause();
  }

  release(who: string): void {
    this.#holders.delete(who);
    if (this.#holders.size === 0) this.stream.resume();
  }
}
