import { Duplex } from 'node:stream';
import type { ReadGate } from '../../channel/read-gate.js';

type WriteCallback = (error?: Error | null) => void;

/**
 * A channel over a container's standard input and output, on the engine's attach stream. It shares that stream with the
 * container's standard error, which whoever splits it takes out and which never ends with the channel: closing the
 * channel closes the container's input and leaves the rest of the stream to be read.
 *
 * A reader that does not keep up pauses the whole stream, standard error included.
 */
export class AttachedChannel extends Duplex {
  /** Resolves with this channel at the first byte that the runtime sends; rejects when the stream ends before. */
  readonly opened: Promise<Duplex>;
  #open: () => void = () => {};

  constructor(
    private readonly attached: Duplex,
    /** Through which the stream is paused: it has other readers. */
    private readonly gate: ReadGate,
  ) {
    super({ allowHalfOpen: false });
    this.opened = new Promise((resolve, reject) => {
      this.#open = () => resolve(this);
      // Once, whichever comes first; later ones find the promise settled and the stream ended.
      const ended = (): void => {
        reject(new Error('the container ended before its runtime opened the channel'));
        if (!this.readableEnded && !this.destroyed) this.push(null);
      };
      for (const event of ['end', 'close', 'error']) attached.once(event, ended);
    });
    this.opened.catch(() => {
      // Whoever waits for it is told; nobody may be.
    });
  }

  /** Takes a piece of the container's standard output. */
  receive(bytes: Buffer): void {
    if (this.destroyed || bytes.length === 0) return;
    this.#open();
    if (!this.push(bytes)) this.gate.hold('channel');
  }

  override _read(): void {
    this.gate.release('channel');
  }

  override _write(chunk: Buffer, encoding: BufferEncoding, callback: WriteCallback): void {
    this.attached.write(chunk, encoding, callback);
  }

  /** A head and its body in one call. */
  override _writev(chunks: readonly { readonly chunk: Buffer }[], callback: WriteCallback): void {
    this.attached.cork();
    chunks.forEach(({ chunk }, at) => {
      this.attached.write(chunk, at === chunks.length - 1 ? callback : undefined);
    });
    this.attached.uncork();
  }

  override _final(callback: WriteCallback): void {
    this.attached.end();
    callback();
  }

  override _destroy(error: Error | null, callback: WriteCallback): void {
    this.attached.end();
    this.gate.release('channel');
    callback(error);
  }
}
