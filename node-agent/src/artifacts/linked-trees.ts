import { linkSync, mkdirSync, readdirSync, readlinkSync, symlinkSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rename, rm, rmdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Logger } from '@lambda-fleet/common/logger';
import { isNotLinkable, linkTree } from './link-tree.js';

/**
 * Up to this many files are linked at once, without giving up the thread: 52 take 0.5 ms so, and 2 ms through the thread
 * pool.
 */
const AT_ONCE_FILES_MAX = 64;
/** The sandbox that was just given its code goes first. */
const SPARE_DELAY_MS = 250;

/**
 * Puts artifacts into the task directories of sandboxes.
 *
 * Small ones are hard-linked on the spot. Of larger ones (2,000 files take 70 ms to link) a spare tree is kept linked
 * beside the artifact, and its top-level entries are renamed into the task directory, which takes 0.05 ms whatever their
 * size; a new spare is made in the background. It lies in the artifact's own folder, so it goes when the artifact goes:
 *
 * `<sha256>/spare-new-*` (being linked) → `<sha256>/spare` (complete) → `<sha256>/taken-*` (being moved out)
 */
export class LinkedTrees {
  readonly #making = new Map<string, NodeJS.Timeout | Promise<void>>();
  #closed = false;

  constructor(private readonly log: Logger) {}

  /** `tree` holds `files` entries; `target` exists and is empty, on the same filesystem if possible. */
  async place(tree: string, files: number, target: string): Promise<void> {
    if (files > AT_ONCE_FILES_MAX) {
      if (!(await this.#moveSpare(tree, target))) await linkTree(tree, target);
      this.#makeSpare(tree);
    } else if (!linkAtOnce(tree, target)) {
      await empty(target);
      await linkTree(tree, target);
    }
  }

  /** Resolves when nothing is being made any more. */
  async close(): Promise<void> {
    this.#closed = true;
    const making = [...this.#making.values()];
    this.#making.clear();
    for (const work of making) if (!(work instanceof Promise)) clearTimeout(work);
    await Promise.all(making.filter((work) => work instanceof Promise));
  }

  /** False when there is none, or when it cannot be moved; then nothing is in the target. */
  async #moveSpare(tree: string, target: string): Promise<boolean> {
    const folder = dirname(tree);
    const taken = join(folder, `taken-${target.replaceAll(/[^a-z0-9]/gi, '').slice(-24)}`);
    try {
      await rename(join(folder, 'spare'), taken);
    } catch {
      return false;
    }
    const names = await readdir(taken);
    try {
      for (const name of names) await rename(join(taken, name), join(target, name));
    } catch (err) {
      this.log.warn({ err, tree }, 'spare_tree_not_moved');
      await empty(target);
      await rm(taken, { recursive: true, force: true });
      return false;
    }
    await rmdir(taken);
    return true;
  }

  #makeSpare(tree: string): void {
    if (this.#closed || this.#making.has(tree)) return;
    const timer = setTimeout(() => {
      const work = this.#link(tree)
        // The artifact may be evicted meanwhile. Without a spare, it is linked file by file.
        .catch((err: unknown) => this.log.debug({ err, tree }, 'spare_tree_not_made'))
        .finally(() => this.#making.delete(tree));
      this.#making.set(tree, work);
    }, SPARE_DELAY_MS);
    timer.unref();
    this.#making.set(tree, timer);
  }

  async #link(tree: string): Promise<void> {
    const folder = dirname(tree);
    const fresh = await mkdtemp(join(folder, 'spare-new-'));
    try {
      await mkdir(join(fresh, 'tree'));
      await linkTree(tree, join(fresh, 'tree'));
      await rename(join(fresh, 'tree'), join(folder, 'spare'));
    } finally {
      await rm(fresh, { recursive: true, force: true });
    }
  }
}

/** What an agent that died was making of a tree in this folder, or moving out of it. */
export async function removeUnfinishedTrees(folder: string): Promise<void> {
  const unfinished = (await readdir(folder)).filter((name) => /^(spare-new|taken)-/.test(name));
  await Promise.all(unfinished.map((name) => rm(join(folder, name), { recursive: true, force: true })));
}

async function empty(folder: string): Promise<void> {
  await Promise.all((await readdir(folder)).map((name) => rm(join(folder, name), { recursive: true, force: true })));
}

/** False when hard links are impossible here; some may have been made. */
function linkAtOnce(source: string, target: string): boolean {
  try {
    for (const entry of readdirSync(source, { withFileTypes: true })) {
      const from = join(source, entry.name);
      const to = join(target, entry.name);
      if (entry.isDirectory()) {
        mkdirSync(to, { mode: 0o755 });
        if (!linkAtOnce(from, to)) return false;
      } else if (entry.isSymbolicLink()) {
        symlinkSync(readlinkSync(from), to);
      } else {
        linkSync(from, to);
      }
    }
    return true;
  } catch (err) {
    if (isNotLinkable(err)) return false;
    throw err;
  }
}
