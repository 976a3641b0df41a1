import { createHash, randomBytes } from 'node:crypto';
import { chmod, mkdir, readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { withDeadline } from '@lambda-fleet/common/deadline';
import type { Logger } from '@lambda-fleet/common/logger';
import type { CompiledFile } from '../channel/compiled-files.js';
import { type LinkedTrees, removeUnfinishedTrees } from './linked-trees.js';

const DEFAULT_BYTES_MAX = 2 * 1024 * 1024 * 1024;
/** Of the limit: removing a little more at once spares doing it at every arrival. */
const LOW_SHARE = 0.8;
const COMPILE_DEADLINE_MS = 60_000;
/** How long after a failure the same code is not compiled again. */
const RETRY_MS = 10 * 60_000;
const FAILURES_MAX = 1_000;
const ENTRY_NAME = /^[0-9a-f]{64}-[0-9a-f]{16}$/;
const ENTRY_FILE = 'entry.json';
const TREE = 'tree';
/** What a file costs on disk beyond its bytes, roughly. */
const FILE_OVERHEAD_BYTES = 4096;

export interface CodeCacheOptions {
  /** Owned by the cache alone; on the same filesystem as the sandboxes, so that trees can be linked. */
  readonly directory: string;
  /** Above it, trees are removed, least recently used first. Default 2 GiB. */
  readonly bytesMax?: number | undefined;
  /** Links the trees into sandboxes. */
  readonly trees: LinkedTrees;
  readonly log: Logger;
}

export interface CodeCacheKey {
  readonly artifactSha256: string;
  /** Everything else that compiled code depends on: the runtime's digest, the isolation, the heap class. Any text. */
  readonly platform: string;
}

interface Entry {
  readonly bytes: number;
  readonly files: number;
  lastUsedMs: number;
}

/**
 * What the platform compiled of artifacts, one tree for each artifact and {@link CodeCacheKey.platform}.
 *
 * `<sha256>-<platform>/tree` is linked into a sandbox before its code is loaded, and `<sha256>-<platform>/entry.json` is its size;
 * both appear by one rename. `incoming/` holds what is not complete, and is emptied at start. A tree that is removed while a
 * sandbox uses it lives on in that sandbox. Nothing here is needed to run anything: each failure means a slower start.
 *
 * A tree is made once, in the background, by a sandbox that does nothing else; two at a time would take the processor from
 * functions, so they wait for each other.
 */
export class CodeCache {
  readonly #entries = new Map<string, Entry>();
  readonly #incoming: string;
  readonly #making = new Set<string>();
  /** When each that failed may be tried again. */
  readonly #failed = new Map<string, number>();
  #queue: Promise<void> = Promise.resolve();
  #bytes = 0;
  #closed = false;

  private constructor(private readonly options: CodeCacheOptions) {
    this.#incoming = join(options.directory, 'incoming');
  }

  static async open(options: CodeCacheOptions): Promise<CodeCache> {
    const cache = new CodeCache(options);
    await cache.#load();
    return cache;
  }

  /** Size of all trees, bytes. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Links the tree into `target`, which is empty. False when there is none, or it could not be linked whole. Never rejects. */
  async place(key: CodeCacheKey, target: string): Promise<boolean> {
    const name = nameOf(key);
    const entry = this.#entries.get(name);
    if (entry === undefined) return false;
    entry.lastUsedMs = Date.now();
    const place = join(this.options.directory, name);
    const now = new Date();
    // Only orders the removals after a restart.
    utimes(join(place, ENTRY_FILE), now, now).catch(() => {});
    try {
      await this.options.trees.place(join(place, TREE), entry.files, target);
      return true;
    } catch (err) {
      // Removed meanwhile. What has been linked is whole, file by file, and serves.
      this.options.log.debug({ err, name }, 'code_cache_not_linked');
      return false;
    }
  }

  /** Whether {@link make} would do anything. */
  lacks(key: CodeCacheKey): boolean {
    const name = nameOf(key);
    if (this.#closed || this.#entries.has(name) || this.#making.has(name)) return false;
    return (this.#failed.get(name) ?? 0) <= Date.now();
  }

  /**
   * Makes the tree, unless it is there, being made, or failed a while ago. `compile` has the artifact compiled in a sandbox of
   * that platform, made for this alone, and has removed the sandbox when it resolves or rejects; it begins when nothing else is
   * being compiled. Resolves when it is over. Never rejects.
   */
  make(key: CodeCacheKey, compile: () => Promise<readonly CompiledFile[]>): Promise<void> {
    if (!this.lacks(key)) return Promise.resolve();
    const name = nameOf(key);
    this.#making.add(name);
    const work = this.#queue.then(() => this.#make(name, compile)).finally(() => this.#making.delete(name));
    this.#queue = work;
    return work;
  }

  /** Resolves when nothing is being made any more. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#queue;
  }

  async #make(name: string, compile: () => Promise<readonly CompiledFile[]>): Promise<void> {
    if (this.#closed) return;
    const startedAt = performance.now();
    const place = join(this.#incoming, randomBytes(8).toString('hex'));
    try {
      const files = await withDeadline('compiling code', COMPILE_DEADLINE_MS, compile());
      const bytes = await writeTree(place, files);
      const size = { bytes, files: files.length };
      await writeFile(join(place, ENTRY_FILE), JSON.stringify(size));
      await rename(place, join(this.options.directory, name));
      this.#add(name, { ...size, lastUsedMs: Date.now() });
      this.#evict(name);
      const ms = Math.round(performance.now() - startedAt);
      this.options.log.info({ name, files: files.length, bytes, ms }, 'code_compiled');
    } catch (err) {
      this.options.log.warn({ err, name }, 'code_not_compiled');
      this.#remember(name);
      await rm(place, { recursive: true, force: true });
    }
  }

  #remember(name: string): void {
    this.#failed.delete(name);
    this.#failed.set(name, Date.now() + RETRY_MS);
    for (const oldest of this.#failed.keys()) {
      if (this.#failed.size <= FAILURES_MAX) return;
      this.#failed.delete(oldest);
    }
  }

  #add(name: string, entry: Entry): void {
    this.#entries.set(name, entry);
    this.#bytes += entry.bytes;
  }

  #evict(except?: string): void {
    const { bytesMax = DEFAULT_BYTES_MAX, log } = this.options;
    if (this.#bytes <= bytesMax) return;
    const oldest = [...this.#entries].toSorted(([, a], [, b]) => a.lastUsedMs - b.lastUsedMs);
    for (const [name, entry] of oldest) {
      if (this.#bytes <= bytesMax * LOW_SHARE) return;
      if (name === except) continue;
      this.#entries.delete(name);
      this.#bytes -= entry.bytes;
      this.#remove(name).catch((err: unknown) => log.error({ err, name }, 'code_cache_not_removed'));
    }
  }

  async #remove(name: string): Promise<void> {
    // Out of the way first: the same may be made again before the removal is through.
    const place = join(this.#incoming, randomBytes(8).toString('hex'));
    await rename(join(this.options.directory, name), place);
    await rm(place, { recursive: true, force: true });
  }

  async #load(): Promise<void> {
    const { directory, log } = this.options;
    await rm(this.#incoming, { recursive: true, force: true });
    await mkdir(this.#incoming, { recursive: true, mode: 0o755 });
    for (const name of await readdir(directory)) {
      if (!ENTRY_NAME.test(name)) continue;
      const file = join(directory, name, ENTRY_FILE);
      try {
        const { bytes, files } = JSON.parse(await readFile(file, 'utf8')) as Pick<Entry, 'bytes' | 'files'>;
        await removeUnfinishedTrees(join(directory, name));
        this.#add(name, { bytes, files, lastUsedMs: (await stat(file)).mtimeMs });
      } catch (err) {
        log.warn({ err, name }, 'code_cache_unreadable');
        await rm(join(directory, name), { recursive: true, force: true });
      }
    }
    this.#evict();
  }
}

/** Bytes on disk. An artifact of which nothing can be compiled has an empty tree, and is not tried again. */
async function writeTree(place: string, files: readonly CompiledFile[]): Promise<number> {
  const tree = join(place, TREE);
  await mkdir(tree, { recursive: true });
  let bytes = FILE_OVERHEAD_BYTES;
  for (const file of files) {
    const path = join(tree, file.path);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, file.bytes, { flag: 'wx' });
    await chmod(path, 0o644);
    bytes += file.bytes.length + FILE_OVERHEAD_BYTES;
  }
  return bytes;
}

function nameOf({ artifactSha256, platform }: CodeCacheKey): string {
  if (!/^[0-9a-f]{64}$/.test(artifactSha256)) throw new Error(`"${artifactSha256}" is not a sha256`);
  return `${artifactSha256}-${createHash('sha256').update(platform).digest('hex').slice(0, 16)}`;
}
