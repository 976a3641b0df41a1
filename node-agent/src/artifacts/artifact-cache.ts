import { randomBytes } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { extractArchive } from '@lambda-fleet/common/archives/extract-archive';
import type { Logger } from '@lambda-fleet/common/logger';
import type { FetchArtifact } from '../invocations/invocation.js';
import { diskShortage } from './disk-shortage.js';
import { downloadArtifact } from './download-artifact.js';
import { removeUnfinishedTrees } from './linked-trees.js';

const DEFAULT_BYTES_HIGH = 10 * 1024 * 1024 * 1024;
/** Of the high watermark: removing a little more at once spares doing it at every arrival. */
const LOW_SHARE = 0.8;
const SHA256 = /^[0-9a-f]{64}$/;
const ENTRY_FILE = 'entry.json';
const TREE = 'tree';
/** What a file costs on disk beyond its bytes, roughly. */
const FILE_OVERHEAD_BYTES = 4096;

export interface ArtifactCacheOptions {
  /** Owned by the cache alone; on the same filesystem as the sandboxes, so that trees can be linked. */
  readonly directory: string;
  /** Above it, trees that no sandbox uses are removed, least recently used first, down to `bytesLow`. Default 10 GiB. */
  readonly bytesHigh?: number | undefined;
  /** Default four fifths of `bytesHigh`. */
  readonly bytesLow?: number | undefined;
  readonly fetchArtifact: FetchArtifact;
  readonly log: Logger;
}

/** Keeps an artifact's tree on disk until it is released. */
export interface ArtifactLease {
  /** The extracted code. Never to be changed. */
  readonly tree: string;
  /** Entries in it. */
  readonly files: number;
  release(): void;
}

interface Limits {
  readonly bytesHigh: number;
  readonly bytesLow: number;
}

interface Entry {
  readonly bytes: number;
  readonly files: number;
  lastUsedMs: number;
  leases: number;
}

/**
 * Extracted artifacts on disk, by the sha256 of their archive.
 *
 * `<sha256>/tree` is the code and `<sha256>/entry.json` its size; both appear by one rename when the archive was
 * fetched whole, verified and extracted, so what is there is complete. `incoming/` holds what is not, and is emptied at start.
 *
 * Trees are removed, never those in use, when there are more of them than the high watermark, down to the low one; and when the
 * disk is nearly full ({@link diskShortage}), whoever filled it.
 */
export class ArtifactCache {
  readonly #entries = new Map<string, Entry>();
  readonly #arriving = new Map<string, Promise<Entry>>();
  readonly #incoming: string;
  readonly #limits: Limits;
  #bytes = 0;
  /** Of trees that are given up and still on the disk. */
  #leavingBytes = 0;
  #tidying: Promise<void> | undefined;

  private constructor(private readonly options: ArtifactCacheOptions) {
    const { bytesHigh = DEFAULT_BYTES_HIGH, bytesLow = bytesHigh * LOW_SHARE } = options;
    this.#limits = { bytesHigh, bytesLow };
    this.#incoming = join(options.directory, 'incoming');
  }

  static async open(options: ArtifactCacheOptions): Promise<ArtifactCache> {
    const cache = new ArtifactCache(options);
    await cache.#load();
    return cache;
  }

  /** Size of all trees, bytes. */
  get bytes(): number {
    return this.#bytes;
  }

  /**
   * Fetches the artifact unless it is here; callers that ask at the same time share one fetch. Rejects with FleetError
   * for a bad archive and with Error when it cannot be fetched; the next call tries again.
   */
  async acquire(sha256: string): Promise<ArtifactLease> {
    if (!SHA256.test(sha256)) throw new Error(`"${sha256}" is not a sha256`);
    const entry = this.#entries.get(sha256) ?? (await this.#arrive(sha256));
    entry.leases += 1;
    entry.lastUsedMs = Date.now();
    const directory = join(this.options.directory, sha256);
    const now = new Date();
    // Only orders the evictions after a restart.
    utimes(join(directory, ENTRY_FILE), now, now).catch(() => {});
    let held = true;
    return {
      tree: join(directory, TREE),
      files: entry.files,
      release: () => {
        if (!held) return;
        held = false;
        entry.leases -= 1;
        void this.tidy();
      },
    };
  }

  #arrive(sha256: string): Promise<Entry> {
    const arriving =
      this.#arriving.get(sha256) ??
      this.#fetch(sha256).finally(() => {
        this.#arriving.delete(sha256);
      });
    this.#arriving.set(sha256, arriving);
    return arriving;
  }

  async #fetch(sha256: string): Promise<Entry> {
    const place = join(this.#incoming, randomBytes(8).toString('hex'));
    await mkdir(join(place, TREE), { recursive: true, mode: 0o755 });
    try {
      // What is about to be written needs room.
      await this.tidy();
      const archive = join(place, 'archive');
      await downloadArtifact(this.options.fetchArtifact(sha256), sha256, archive);
      const extracted = await extractArchive(archive, join(place, TREE));
      await rm(archive);
      const entry = {
        bytes: extracted.unpackedBytes + extracted.entries * FILE_OVERHEAD_BYTES,
        files: extracted.entries,
        lastUsedMs: Date.now(),
        leases: 0,
      };
      await writeFile(join(place, ENTRY_FILE), JSON.stringify({ bytes: entry.bytes, files: entry.files }));
      await rename(place, join(this.options.directory, sha256));
      this.#add(sha256, entry);
      // Before anyone holds it.
      this.#evict(this.#excess(), sha256);
      return entry;
    } catch (err) {
      await rm(place, { recursive: true, force: true });
      throw err;
    }
  }

  #add(sha256: string, entry: Entry): void {
    this.#entries.set(sha256, entry);
    this.#bytes += entry.bytes;
  }

  /** Removes unused trees when there are too many of them, or the disk is nearly full. Never rejects. */
  tidy(): Promise<void> {
    // Together with a look at the disk that has not been answered yet.
    this.#tidying ??= this.#tidy().finally(() => {
      this.#tidying = undefined;
    });
    return this.#tidying;
  }

  async #tidy(): Promise<void> {
    const { directory, log } = this.options;
    let shortage = 0;
    try {
      shortage = Math.max(0, (await diskShortage(directory)) - this.#leavingBytes);
    } catch (err) {
      log.warn({ err, directory }, 'disk_unreadable');
    }
    if (shortage > 0) log.warn({ directory, shortage, cached: this.#bytes }, 'disk_nearly_full');
    this.#evict(Math.max(this.#excess(), shortage));
  }

  #excess(): number {
    const { bytesHigh, bytesLow } = this.#limits;
    return this.#bytes > bytesHigh ? this.#bytes - bytesLow : 0;
  }

  /** Removes unused trees of at least so many bytes, least recently used first; `except` is about to be used. */
  #evict(bytes: number, except?: string): void {
    if (bytes <= 0) return;
    const unused = [...this.#entries]
      .filter(([sha256, entry]) => entry.leases === 0 && sha256 !== except)
      .toSorted(([, a], [, b]) => a.lastUsedMs - b.lastUsedMs);
    let removed = 0;
    for (const [sha256, entry] of unused) {
      if (removed >= bytes) return;
      removed += entry.bytes;
      this.#entries.delete(sha256);
      this.#bytes -= entry.bytes;
      this.#leavingBytes += entry.bytes;
      this.#remove(sha256)
        .catch((err: unknown) => this.options.log.error({ err, sha256 }, 'artifact_not_removed'))
        .finally(() => {
          this.#leavingBytes -= entry.bytes;
        });
    }
  }

  async #remove(sha256: string): Promise<void> {
    // Out of the way first: a fetch of the same artifact may begin before the removal is through.
    const place = join(this.#incoming, randomBytes(8).toString('hex'));
    await rename(join(this.options.directory, sha256), place);
    await rm(place, { recursive: true, force: true });
  }

  async #load(): Promise<void> {
    await rm(this.#incoming, { recursive: true, force: true });
    await mkdir(this.#incoming, { recursive: true, mode: 0o755 });
    for (const name of await readdir(this.options.directory)) {
      if (!SHA256.test(name)) continue;
      const place = join(this.options.directory, name, ENTRY_FILE);
      try {
        const { bytes, files } = JSON.parse(await readFile(place, 'utf8')) as Pick<Entry, 'bytes' | 'files'>;
        await removeUnfinishedTrees(join(this.options.directory, name));
        this.#add(name, { bytes, files, lastUsedMs: (await stat(place)).mtimeMs, leases: 0 });
      } catch (err) {
        this.options.log.warn({ err, sha256: name }, 'artifact_unreadable');
        await rm(join(this.options.directory, name), { recursive: true, force: true });
      }
    }
    await this.tidy();
  }
}
