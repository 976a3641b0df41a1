import { createHash } from 'node:crypto';
import { readFile, rename, writeFile } from 'node:fs/promises';
import type { ImageEngine } from './image-engine.js';

const BUILD_REPOSITORY = 'lambda-fleet/build';
/** Functions whose last build is kept; the one built longest ago goes first. */
const KEPT_MAX = 20;

interface Kept {
  readonly key: string;
  /** One for each stage of the Dockerfile. */
  readonly tags: readonly string[];
}

/**
 * Keeps the images of each function's last build, whose layers are the cache of the next one. Names are what keeps an image:
 * when a name moves on, the engine removes what nothing else stands on. Which names there are stands in a file.
 */
export class BuildCache {
  #kept: Kept[] = [];

  private constructor(
    private readonly engine: ImageEngine,
    private readonly file: string,
    private readonly owner: string,
  ) {}

  /** Removes names that the file does not know: it was lost, or an earlier agent died between two steps. */
  static async open(engine: ImageEngine, file: string, owner: string): Promise<BuildCache> {
    const cache = new BuildCache(engine, file, owner);
    try {
      const kept: unknown = JSON.parse(await readFile(file, 'utf8'));
      if (Array.isArray(kept)) cache.#kept = kept.filter(isKept);
    } catch {
      // None yet, or cut off: the images are removed and built again.
    }
    const known = new Set(cache.#kept.flatMap(({ tags }) => tags));
    for (const tag of await engine.tagsOf(BUILD_REPOSITORY)) {
      if (tag.startsWith(`${owner}-`) && !known.has(tag)) await engine.remove(`${BUILD_REPOSITORY}:${tag}`);
    }
    return cache;
  }

  /** Whether one of these names is kept here. */
  keeps(names: readonly string[]): boolean {
    return names.some((name) => name.startsWith(`${BUILD_REPOSITORY}:${this.owner}-`));
  }

  /** Keeps these images for the function in place of those of its build before. */
  async keep(cacheKey: string, imageIds: readonly string[]): Promise<void> {
    const key = createHash('sha256').update(cacheKey).digest('hex').slice(0, 24);
    const before = this.#kept.find((kept) => kept.key === key)?.tags ?? [];
    // Other names than before: moving a name leaves an image without one, which only its id could remove.
    const generation = before[0]?.endsWith('-a-0') === true ? 'b' : 'a';
    const tags = imageIds.map((_, stage) => `${this.owner}-${key}-${generation}-${stage}`);
    for (const [stage, id] of imageIds.entries()) await this.engine.tag(id, BUILD_REPOSITORY, tags[stage] ?? '');
    this.#kept = [...this.#kept.filter((kept) => kept.key !== key), { key, tags }];
    const dropped = this.#kept.splice(0, Math.max(0, this.#kept.length - KEPT_MAX));
    await this.#save();
    for (const tag of [...before, ...dropped.flatMap((kept) => kept.tags)]) {
      await this.engine.remove(`${BUILD_REPOSITORY}:${tag}`);
    }
  }

  async #save(): Promise<void> {
    await writeFile(`${this.file}.new`, JSON.stringify(this.#kept));
    await rename(`${this.file}.new`, this.file);
  }
}

function isKept(value: unknown): value is Kept {
  return typeof value === 'object' && value !== null && 'key' in value && 'tags' in value && Array.isArray(value.tags);
}
