import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createGunzip } from 'node:zlib';

/** More came out of it than it is allowed to hold, or what came in is no gzip. */
export class NotUnpackable extends Error {
  override readonly name = 'NotUnpackable';
}

/**
 * What a gzip stream unpacks to, without keeping it: its digest and its size. Stops at the first byte too many, so that a
 * small upload cannot stand for an endless one.
 */
export class UnpackedDigest {
  readonly #gunzip = createGunzip();
  readonly #hash = createHash('sha256');
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#gunzip.on('data', (piece: Buffer) => {
      this.#bytes += piece.length;
      if (this.#bytes > bytesMax) this.#gunzip.destroy(new NotUnpackable('it unpacks to more than it says'));
      else this.#hash.update(piece);
    });
    // Told by the next call.
    this.#gunzip.on('error', () => {});
  }

  /** @throws NotUnpackable */
  async write(packed: Uint8Array): Promise<void> {
    if (this.#gunzip.destroyed) throw this.#failure();
    if (this.#gunzip.write(packed)) return;
    await once(this.#gunzip, 'drain').catch(() => {
      throw this.#failure();
    });
  }

  /** @throws NotUnpackable */
  async finish(): Promise<{ readonly sha256: string; readonly bytes: number }> {
    if (this.#gunzip.destroyed) throw this.#failure();
    const ended = once(this.#gunzip, 'end');
    this.#gunzip.end();
    await ended.catch(() => {
      throw this.#failure();
    });
    return { sha256: this.#hash.digest('hex'), bytes: this.#bytes };
  }

  close(): void {
    this.#gunzip.destroy();
  }

  #failure(): NotUnpackable {
    const { errored } = this.#gunzip;
    return errored instanceof NotUnpackable ? errored : new NotUnpackable(errored?.message ?? 'it was given up');
  }
}
