const MESSAGE = Buffer.from('JavaScript heap out of memory');

/** Watches a sandbox's standard error for the words with which V8 gives up, also when they are cut in two. */
export class HeapAbort {
  #tail: Buffer = Buffer.alloc(0);
  #seen = false;

  get seen(): boolean {
    return this.#seen;
  }

  push(bytes: Buffer): void {
    if (this.#seen) return;
    const joined = this.#tail.length === 0 ? bytes : Buffer.concat([this.#tail, bytes]);
    this.#seen = joined.includes(MESSAGE);
    this.#tail = Buffer.from(joined.subarray(Math.max(0, joined.length - MESSAGE.length + 1)));
  }
}
