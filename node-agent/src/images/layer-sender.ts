import { createReadStream } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { createGzip } from 'node:zlib';
import { Metadata, status } from '@grpc/grpc-js';
import { CHUNK_BYTES_MAX } from '@lambda-fleet/common/limits';
import type { FleetServiceClient, HasLayersResponse, ImageLayer } from '@lambda-fleet/proto';

import type { StoredLayers } from './image-exporter.js';

const ASK_DEADLINE_MS = 15_000;
/** And 1 s for each megabyte: a link that is slower than that is no place to build. */
const SEND_DEADLINE_MS = 30_000;
const MB = 1024 * 1024;
const READ_BYTES = 256 * 1024;
const TRIES = 3;
const TRY_AGAIN_MS = 500;

/** Sends layers of builds to the artifact store, over the bulk connection of the link. */
export class LayerSender implements StoredLayers {
  /** @param client of the link that gave the build; throws when that is down */
  constructor(private readonly client: (buildId: string) => FleetServiceClient) {}

  stored(buildId: string, sha256: readonly string[]): Promise<readonly ImageLayer[]> {
    return new Promise((resolve, reject) => {
      const request = { buildId, sha256: [...sha256] };
      const deadline = Date.now() + ASK_DEADLINE_MS;
      const answer = (err: Error | null, response?: HasLayersResponse) =>
        err ? reject(err) : resolve(response?.stored ?? []);
      this.client(buildId).hasLayers(request, new Metadata(), { deadline }, answer);
    });
  }

  /** Sends the layer that stands in a file. Tries again when the store was away for a moment. */
  async send(buildId: string, layer: ImageLayer, file: string, signal: AbortSignal): Promise<void> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        await this.#put(buildId, layer, file, signal);
        return;
      } catch (err) {
        if (attempt === TRIES || signal.aborted || !isAway(err)) throw err;
        await sleep(attempt * TRY_AGAIN_MS);
      }
    }
  }

  #put(buildId: string, layer: ImageLayer, file: string, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const deadline = Date.now() + SEND_DEADLINE_MS + Math.ceil(layer.bytes / MB) * 1_000;
      const reading = createReadStream(file, { highWaterMark: READ_BYTES });
      // A third of the bytes on the way and in the store, for little time.
      const packed = reading.pipe(createGzip({ level: 1, chunkSize: CHUNK_BYTES_MAX }));
      const call = this.client(buildId).putLayer({ deadline }, (err) => {
        reading.destroy();
        packed.destroy();
        signal.removeEventListener('abort', cancel);
        if (err) reject(err);
        else resolve();
      });
      const cancel = () => call.cancel();
      signal.addEventListener('abort', cancel, { once: true });
      call.write({ buildId, layer, data: EMPTY });
      packed.on('data', (data: Buffer) => {
        if (call.write({ buildId: '', layer: undefined, data })) return;
        packed.pause();
        call.once('drain', () => packed.resume());
      });
      packed.once('end', () => call.end());
      for (const source of [reading, packed]) {
        source.once('error', (err: Error) => {
          call.cancel();
          reject(err);
        });
      }
    });
  }
}

const EMPTY = Buffer.alloc(0);

function isAway(err: unknown): boolean {
  return err instanceof Error && 'code' in err && err.code === status.UNAVAILABLE;
}
