import { type Frame, HEAD_BYTES, LENGTH_MAX, LENGTH_MIN, META_BYTES_MAX } from './frame.js';
import { ProtocolViolation } from './protocol-violation.js';

const LENGTH_BYTES = HEAD_BYTES - LENGTH_MIN;

/**
 * Cuts a byte stream into frames. Lengths are judged before anything is kept for them.
 *
 * A frame that lies whole in one chunk is handed out as views of that chunk. One that spans chunks is collected in a
 * buffer of its exact size, so that a sender of single bytes cannot make us hold more than one frame; the system
 * commits that memory only as bytes arrive.
 */
export class FrameParser {
  readonly #head = Buffer.alloc(HEAD_BYTES);
  #headBytes = 0;
  /** Meta and body of a frame that spans chunks. */
  #rest: Buffer | undefined;
  #restBytes = 0;

  /** `onFrame` may stop the parsing of the chunk by returning false. `lengthMax` is what a frame's length may say. */
  constructor(
    private readonly onFrame: (frame: Frame) => boolean,
    private readonly lengthMax = LENGTH_MAX,
  ) {}

  /** Throws {@link ProtocolViolation}; the parser is useless afterwards. */
  push(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length) {
      if (this.#rest !== undefined) {
        at += this.#collect(this.#rest, chunk, at);
        if (this.#restBytes < this.#rest.length) return;
        const rest = this.#rest;
        this.#rest = undefined;
        if (!this.#emit(this.#head, 0, rest, 0)) return;
        continue;
      }
      if (this.#headBytes === 0 && chunk.length - at >= HEAD_BYTES) {
        const restBytes = this.#checkHead(chunk, at);
        if (chunk.length - at - HEAD_BYTES >= restBytes) {
          if (!this.#emit(chunk, at, chunk, at + HEAD_BYTES)) return;
          at += HEAD_BYTES + restBytes;
          continue;
        }
      }
      const copied = chunk.copy(this.#head, this.#headBytes, at, at + HEAD_BYTES - this.#headBytes);
      this.#headBytes += copied;
      at += copied;
      // A bad length is refused as soon as it is known, without waiting for a type that may never come.
      if (this.#headBytes >= LENGTH_BYTES) this.#checkLength(this.#head, 0);
      if (this.#headBytes < HEAD_BYTES) return;
      const restBytes = this.#checkHead(this.#head, 0);
      this.#headBytes = 0;
      this.#rest = Buffer.allocUnsafeSlow(restBytes);
      this.#restBytes = 0;
      if (restBytes === 0) {
        this.#rest = undefined;
        if (!this.#emit(this.#head, 0, this.#head, HEAD_BYTES)) return;
      }
    }
  }

  #collect(rest: Buffer, chunk: Buffer, at: number): number {
    const copied = chunk.copy(rest, this.#restBytes, at);
    this.#restBytes += copied;
    return copied;
  }

  #emit(head: Buffer, headAt: number, rest: Buffer, restAt: number): boolean {
    const metaEnd = restAt + head.readUInt32BE(headAt + 5);
    const end = restAt + head.readUInt32BE(headAt) - LENGTH_MIN;
    return this.onFrame({
      type: head.readUInt8(headAt + 4),
      meta: rest.subarray(restAt, metaEnd),
      body: rest.subarray(metaEnd, end),
    });
  }

  #checkLength(head: Buffer, at: number): number {
    const length = head.readUInt32BE(at);
    if (length < LENGTH_MIN || length > this.lengthMax) {
      throw new ProtocolViolation(`a frame announced ${length} bytes`);
    }
    return length;
  }

  /** Bytes of meta and body that follow the head. */
  #checkHead(head: Buffer, at: number): number {
    const restBytes = this.#checkLength(head, at) - LENGTH_MIN;
    const metaBytes = head.readUInt32BE(at + 5);
    if (metaBytes > META_BYTES_MAX || metaBytes > restBytes) {
      throw new ProtocolViolation(`a frame announced ${metaBytes} bytes of meta`);
    }
    return restBytes;
  }
}
