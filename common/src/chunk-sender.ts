import { CHUNK_BYTES_MAX } from './limits.js';

/** The writable half of a Transfer stream. */
export interface ChunkStream<F> {
  write(frame: F): boolean;
  once(event: 'drain', listener: () => void): unknown;
}

interface Outgoing<R> {
  readonly ref: R;
  readonly body: Buffer;
  sent: number;
}

/**
 * Sends large bodies over a session's Transfer stream, one chunk of each in turn,
 * so that a 6 MB body delays a 40 KB one by a chunk and not by itself.
 *
 * States: detached → attached ⇄ draining → detached. What is queued when the
 * stream goes is dropped: its session ends with it.
 *
 * `R` names the invocation a body belongs to, `F` is the stream's frame.
 */
export class ChunkSender<R, F> {
  #stream: ChunkStream<F> | undefined;
  #draining = false;
  #queue: Outgoing<R>[] = [];

  constructor(private readonly toFrame: (ref: R, data: Buffer) => F) {}

  get attached(): boolean {
    return this.#stream !== undefined;
  }

  attach(stream: ChunkStream<F>): void {
    this.#stream = stream;
    this.#draining = false;
    this.#pump();
  }

  detach(): void {
    this.#stream = undefined;
    this.#queue = [];
  }

  /** The body is not copied: it must not change until it was sent. */
  send(ref: R, body: Buffer): void {
    this.#queue.push({ ref, body, sent: 0 });
    this.#pump();
  }

  #pump(): void {
    while (this.#stream !== undefined && !this.#draining) {
      const next = this.#queue.shift();
      if (next === undefined) return;
      const data = next.body.subarray(next.sent, next.sent + CHUNK_BYTES_MAX);
      next.sent += data.length;
      if (next.sent < next.body.length) this.#queue.push(next);
      if (!this.#stream.write(this.toFrame(next.ref, data))) this.#awaitDrain();
    }
  }

  #awaitDrain(): void {
    const stream = this.#stream;
    this.#draining = true;
    stream?.once('drain', () => {
      if (this.#stream !== stream) return;
      this.#draining = false;
      this.#pump();
    });
  }
}
