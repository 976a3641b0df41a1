import type { OutputStream } from '../raw-output.js';

const HEADER_BYTES = 8;
const STDERR = 2;

/**
 * Splits the engine's attach stream, in which each piece of output has a header of stream number and length.
 *
 * Iterative and without a buffer: payload is handed out as views of the chunk it came in. The client library's own
 * demultiplexer recurses per piece and overflows the stack on 63 KB of one-byte pieces.
 */
export class OutputDemux {
  readonly #header = Buffer.alloc(HEADER_BYTES);
  #headerBytes = 0;
  #payloadBytes = 0;
  #stream: OutputStream = 'stdout';

  constructor(private readonly onOutput: (stream: OutputStream, bytes: Buffer) => void) {}

  push(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length) {
      if (this.#payloadBytes > 0) {
        const end = Math.min(chunk.length, at + this.#payloadBytes);
        this.onOutput(this.#stream, chunk.subarray(at, end));
        this.#payloadBytes -= end - at;
        at = end;
        continue;
      }
      const copied = chunk.copy(this.#header, this.#headerBytes, at, at + HEADER_BYTES - this.#headerBytes);
      this.#headerBytes += copied;
      at += copied;
      if (this.#headerBytes < HEADER_BYTES) return;
      this.#headerBytes = 0;
      this.#stream = this.#header.readUInt8(0) === STDERR ? 'stderr' : 'stdout';
      this.#payloadBytes = this.#header.readUInt32BE(4);
    }
  }
}
