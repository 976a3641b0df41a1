import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { withDeadline } from '@lambda-fleet/common/deadline';
import { imageLoadMs } from '@lambda-fleet/common/image-load';
import type { Logger } from '@lambda-fleet/common/logger';
import type { ImageLayer, ImageSpec } from '@lambda-fleet/proto';
import type { FetchArtifact } from '../invocations/invocation.js';
import { imageArchive, imageDigest } from './image-archive.js';
import type { ImageEngine } from './image-engine.js';

const FUNCTION_REPOSITORY = 'lambda-fleet/function';
/** Longest silence between two pieces of a layer. */
const PIECE_DEADLINE_MS = 15_000;
const DIFF_ID_PREFIX = 'sha256:';

export interface ImageCacheOptions {
  readonly engine: ImageEngine;
  /** Streams a layer from the artifact store. */
  readonly fetchArtifact: FetchArtifact;
  /** Above it images that no sandbox uses are removed, least recently used first. Layers that several share count once. */
  readonly bytesMax: number;
  readonly log: Logger;
}

/** Keeps an image on the engine until it is released. */
export interface ImageLease {
  /** What the engine knows it by. */
  readonly name: string;
  release(): void;
}

interface Entry {
  layers: readonly ImageLayer[];
  lastUsedMs: number;
  leases: number;
}

/**
 * Container images of functions on this node's engine.
 *
 * An image is loaded when a sandbox needs it, once however many ask, from the layers that the engine does not have. It is looked at
 * before every use: the engine is shared with people, who remove images.
 */
export class ImageCache {
  readonly #entries = new Map<string, Entry>();
  readonly #loading = new Map<string, Promise<void>>();
  /** What images of the engine stand on, by their id, which never changes. */
  #layersOf = new Map<string, readonly string[]>();

  private constructor(private readonly options: ImageCacheOptions) {}

  static async open(options: ImageCacheOptions): Promise<ImageCache> {
    const cache = new ImageCache(options);
    for (const digest of await options.engine.tagsOf(FUNCTION_REPOSITORY)) {
      const bytes = (await options.engine.inspect(nameOf(digest)))?.Size ?? 0;
      // Its layers are not known apart before it is used.
      cache.#entries.set(digest, { layers: [{ sha256: digest, bytes }], lastUsedMs: 0, leases: 0 });
    }
    return cache;
  }

  /** Rejects when a layer cannot be fetched or is not what it says, or when the engine does not take the image. */
  async acquire(image: ImageSpec): Promise<ImageLease> {
    const digest = imageDigest(image);
    const entry = this.#entries.get(digest) ?? { layers: image.layers, lastUsedMs: 0, leases: 0 };
    this.#entries.set(digest, entry);
    // Held from here on, so that it is not removed between being loaded and being used.
    entry.leases += 1;
    entry.lastUsedMs = Date.now();
    entry.layers = image.layers;
    let held = true;
    const release = (): void => {
      if (!held) return;
      held = false;
      entry.leases -= 1;
      void this.#evict();
    };
    try {
      const loading = this.#loading.get(digest) ?? this.#ensure(digest, image);
      this.#loading.set(digest, loading);
      await loading.finally(() => this.#loading.delete(digest));
      return { name: nameOf(digest), release };
    } catch (err) {
      release();
      throw err;
    }
  }

  async #ensure(digest: string, image: ImageSpec): Promise<void> {
    if (await this.#isHere(digest, image)) return;
    const { log } = this.options;
    const startedAt = performance.now();
    const known = await this.#knownLayers(image);
    try {
      await this.#load(digest, image, known);
    } catch (err) {
      if (known === 0) throw err;
      // An engine may keep layers in a way in which one image cannot stand on another's, or has just removed that one.
      log.warn({ err, image: digest, known }, 'image_not_loaded_in_part');
      await this.#load(digest, image, 0);
    }
    if (!(await this.#isHere(digest, image))) throw new Error('the engine has made another image of the layers');
    const ms = Math.round(performance.now() - startedAt);
    log.info({ image: digest, layers: image.layers.length, known, ms }, 'image_loaded');
    void this.#evict();
  }

  async #isHere(digest: string, { layers }: ImageSpec): Promise<boolean> {
    const info = await this.options.engine.inspect(nameOf(digest));
    const found = info?.RootFS.Layers ?? [];
    return found.length === layers.length && layers.every(({ sha256 }, at) => found[at] === DIFF_ID_PREFIX + sha256);
  }

  /** How many layers, from the base up, some image of the engine begins with. */
  async #knownLayers({ layers }: ImageSpec): Promise<number> {
    const { engine } = this.options;
    const layersOf = new Map<string, readonly string[]>();
    let known = 0;
    for (const id of await engine.imageIds()) {
      const found = this.#layersOf.get(id) ?? (await engine.inspect(id))?.RootFS.Layers ?? [];
      layersOf.set(id, found);
      let same = 0;
      while (same < layers.length && found[same] === DIFF_ID_PREFIX + layers[same]?.sha256) same += 1;
      known = Math.max(known, same);
    }
    this.#layersOf = layersOf;
    return known;
  }

  async #load(digest: string, image: ImageSpec, from: number): Promise<void> {
    const abort = new AbortController();
    const archive = imageArchive(image, nameOf(digest), from, (layer) => this.#fetch(layer));
    const work = this.options.engine.load(Readable.from(archive, { objectMode: false }), abort.signal);
    try {
      await withDeadline('loading a container image', imageLoadMs(image), work);
    } finally {
      abort.abort();
    }
  }

  /** A layer's bytes, unpacked, as many as it says; throws at the end when they were others. */
  async *#fetch(layer: ImageLayer): AsyncGenerator<Uint8Array> {
    const hash = createHash('sha256');
    let bytes = 0;
    const packed = Readable.from(this.#packed(layer), { objectMode: false });
    const unpacked = packed.pipe(createGunzip());
    packed.once('error', (err) => unpacked.destroy(err));
    try {
      for await (const piece of unpacked as AsyncIterable<Buffer>) {
        bytes += piece.length;
        if (bytes > layer.bytes) throw new Error(`the layer ${layer.sha256} is longer than it should be`);
        hash.update(piece);
        yield piece;
      }
    } finally {
      packed.destroy();
      unpacked.destroy();
    }
    if (bytes !== layer.bytes) throw new Error(`the layer ${layer.sha256} is shorter than it should be`);
    const actual = hash.digest('hex');
    if (actual !== layer.sha256) throw new Error(`the layer ${layer.sha256} arrived with the checksum ${actual}`);
  }

  /** As it is stored. */
  async *#packed({ sha256 }: ImageLayer): AsyncGenerator<Uint8Array> {
    const pieces = this.options.fetchArtifact(sha256)[Symbol.asyncIterator]();
    try {
      for (;;) {
        const next = await withDeadline('fetching a layer from the control plane', PIECE_DEADLINE_MS, pieces.next());
        if (next.done === true) return;
        yield next.value;
      }
    } finally {
      // Not awaited: a source that stalled would stall here again.
      void pieces.return?.().catch(() => undefined);
    }
  }

  /** Removes unused images until the rest fits. Never rejects. */
  async #evict(): Promise<void> {
    const unused = [...this.#entries]
      .filter(([, { leases }]) => leases === 0)
      .toSorted(([, a], [, b]) => a.lastUsedMs - b.lastUsedMs);
    for (const [digest, entry] of unused) {
      if (this.#bytes() <= this.options.bytesMax) return;
      if (entry.leases > 0) continue;
      this.#entries.delete(digest);
      try {
        await this.options.engine.remove(nameOf(digest));
      } catch (err) {
        this.options.log.warn({ err, image: digest }, 'image_not_removed');
      }
    }
  }

  #bytes(): number {
    const sizes = new Map<string, number>();
    for (const { layers } of this.#entries.values()) {
      for (const { sha256, bytes } of layers) sizes.set(sha256, bytes);
    }
    let sum = 0;
    for (const bytes of sizes.values()) sum += bytes;
    return sum;
  }
}

function nameOf(digest: string): string {
  return `${FUNCTION_REPOSITORY}:${digest}`;
}
