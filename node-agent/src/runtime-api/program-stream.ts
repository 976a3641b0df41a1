import { Duplex } from 'node:stream';
import { DATA_BYTES_MAX, WINDOW_BYTES } from './init-frame.js';

type WriteCallback = (error?: Error | null) => void;

/** What a stream says to the init. Each call is one frame; `sent` is called when the channel has taken it. */
export interface ProgramStreamLink {
  data(bytes: Buffer, sent: WriteCallback | undefined): void;
  window(bytes: number): void;
  end(): void;
  /** Both directions are over; nothing more comes and nothing more may be sent. */
  over(reset: boolean): void;
  /** False while the channel is full; {@link ProgramStream.channelDrained} is called when it has room again. */
  ready(): boolean;
}

/** More credit is given in steps of this, so that small requests cost no WINDOW at all. */
const WINDOW_STEP_BYTES = WINDOW_BYTES / 2;

/**
 * One TCP connection inside a sandbox, seen from the agent.
 *
 * Reading: the program may send as much as the window says, and gets more only as this stream's reader takes it. What comes while the
 * reader is not reading is kept in one buffer, because a program may send it byte by byte, and as many objects would cost far more than
 * their bytes.
 *
 * Writing: what is written waits until the init has credit for it and the channel has room.
 *
 * It ends when both directions have ended, or at once when either side resets it: `destroy` does.
 */
export class ProgramStream extends Duplex {
  /** What the program may still send. */
  #allowed = WINDOW_BYTES;
  /** Read, and not told to the init yet. */
  #taken = 0;
  /** Came while nobody was reading. */
  #held: Buffer = Buffer.alloc(0);
  #heldBytes = 0;
  #wanted = false;
  /** What may still be sent to the program. */
  #credit = WINDOW_BYTES;
  #queue: Buffer[] = [];
  #written: WriteCallback | undefined;
  #programEnded = false;
  #ended = false;
  #over = false;

  constructor(private readonly link: ProgramStreamLink) {
    super({ allowHalfOpen: true, readableHighWaterMark: DATA_BYTES_MAX, writableHighWaterMark: DATA_BYTES_MAX });
  }

  /** Bytes from the program. Returns what is wrong with them, or undefined. */
  receive(bytes: Buffer): string | undefined {
    if (this.#programEnded) return 'DATA came after END';
    this.#allowed -= bytes.length;
    if (this.#allowed < 0) return 'more DATA came than was allowed';
    if (this.destroyed) return undefined;
    if (this.#wanted) this.#hand(bytes);
    else this.#hold(bytes);
    return undefined;
  }

  /** The program ended its direction. Returns what is wrong, or undefined. */
  receiveEnd(): string | undefined {
    if (this.#programEnded) return 'END came twice';
    this.#programEnded = true;
    if (this.#heldBytes === 0 && !this.destroyed) this.push(null);
    this.#maybeOver();
    return undefined;
  }

  /** More may be sent to the program. Returns what is wrong, or undefined. */
  receiveWindow(bytes: number): string | undefined {
    if (bytes === 0 || bytes > WINDOW_BYTES - this.#credit) return 'WINDOW is wider than what was sent';
    this.#credit += bytes;
    this.#pump();
    return undefined;
  }

  /** The connection is broken, or the channel is gone. */
  receiveReset(): void {
    this.#over = true;
    this.destroy(new ProgramStreamReset());
  }

  channelDrained(): void {
    this.#pump();
  }

  override _read(): void {
    this.#wanted = true;
    this.#giveCredit();
    if (this.#heldBytes === 0) return;
    const held = this.#held.subarray(0, this.#heldBytes);
    this.#held = Buffer.alloc(0);
    this.#heldBytes = 0;
    this.#hand(held);
    if (this.#programEnded) this.push(null);
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: WriteCallback): void {
    this.#send([chunk], callback);
  }

  /** The head of an HTTP message and its body leave as one frame where they fit into one. */
  override _writev(chunks: readonly { readonly chunk: Buffer }[], callback: WriteCallback): void {
    const buffers = chunks.map(({ chunk }) => chunk);
    const bytes = buffers.reduce((sum, buffer) => sum + buffer.length, 0);
    this.#send(bytes <= DATA_BYTES_MAX ? [Buffer.concat(buffers, bytes)] : buffers, callback);
  }

  override _final(callback: WriteCallback): void {
    this.#ended = true;
    if (!this.#over) this.link.end();
    this.#maybeOver();
    callback();
  }

  override _destroy(error: Error | null, callback: WriteCallback): void {
    if (!this.#over) {
      this.#over = true;
      this.link.over(true);
    }
    this.#queue = [];
    this.#held = Buffer.alloc(0);
    this.#heldBytes = 0;
    this.#finishWrite(error ?? new ProgramStreamReset());
    callback(error);
  }

  #send(buffers: readonly Buffer[], callback: WriteCallback): void {
    this.#queue.push(...buffers.filter((buffer) => buffer.length > 0));
    this.#written = callback;
    if (this.#queue.length === 0) this.#finishWrite();
    else this.#pump();
  }

  #pump(): void {
    for (let next = this.#queue[0]; next !== undefined; next = this.#queue[0]) {
      if (this.#over || this.#credit === 0 || !this.link.ready()) return;
      const bytes = Math.min(next.length, this.#credit, DATA_BYTES_MAX);
      if (bytes === next.length) this.#queue.shift();
      else this.#queue[0] = next.subarray(bytes);
      this.#credit -= bytes;
      const last = this.#queue.length === 0;
      this.link.data(next.subarray(0, bytes), last ? (err) => this.#finishWrite(err) : undefined);
    }
  }

  #finishWrite(error?: Error | null): void {
    const written = this.#written;
    this.#written = undefined;
    written?.(error);
  }

  #hand(bytes: Buffer): void {
    this.#taken += bytes.length;
    this.#wanted = this.push(bytes);
    if (this.#wanted) this.#giveCredit();
  }

  #hold(bytes: Buffer): void {
    const needed = this.#heldBytes + bytes.length;
    if (needed > this.#held.length) {
      const larger = Buffer.allocUnsafeSlow(Math.min(WINDOW_BYTES, Math.max(2 * needed, 1024)));
      this.#held.copy(larger, 0, 0, this.#heldBytes);
      this.#held = larger;
    }
    bytes.copy(this.#held, this.#heldBytes);
    this.#heldBytes = needed;
  }

  #giveCredit(): void {
    if (this.#taken < WINDOW_STEP_BYTES || this.#programEnded || this.#over) return;
    this.#allowed += this.#taken;
    this.link.window(this.#taken);
    this.#taken = 0;
  }

  #maybeOver(): void {
    if (this.#over || !this.#ended || !this.#programEnded) return;
    this.#over = true;
    this.link.over(false);
  }
}

/** The connection broke, was refused, or its sandbox ended. */
export class ProgramStreamReset extends Error {
  override readonly name = 'ProgramStreamReset';
  readonly code = 'ECONNRESET';

  constructor() {
    super('the connection inside the sandbox is gone');
  }
}
