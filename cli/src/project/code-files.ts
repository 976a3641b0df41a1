import type { Dirent } from 'node:fs';
import { readdir, readFile, realpath, stat } from 'node:fs/promises';
import { join, relative, sep } from 'node:path';
import { ARCHIVE_ENTRIES_MAX, UNPACKED_BYTES_MAX } from '@lambda-fleet/common/limits';
import ignore, { type Ignore } from 'ignore';
import { usageError } from '../cli-error.js';
import { bytesText } from '../terminal-text.js';

export interface CodeFile {
  /** Relative to the folder, with `/`. */
  readonly path: string;
  /** Where its bytes are: elsewhere than `path` when a link led there. */
  readonly source: string;
  readonly bytes: number;
  readonly executable: boolean;
}

export interface CodeFiles {
  /** In byte order of their paths. */
  readonly files: readonly CodeFile[];
  /** What a person should know about what was left out. */
  readonly warnings: readonly string[];
}

/** Never part of a function: version control, our own state and settings, caches. */
const ALWAYS_IGNORED = [
  '.git',
  '.lambda',
  '/lambda.json',
  '/.lambdaignore',
  '/.gitignore',
  'node_modules/.cache',
  '__pycache__',
  '.DS_Store',
];

/**
 * Lists the files of a function's folder.
 *
 * `.lambdaignore` of the folder decides what is left out; without one,
 * `.gitignore` does. Links are followed while they stay inside the folder, and
 * stored as what they point to; one that leaves it is an error, because what it
 * points to is somebody else's or not there on the next machine.
 */
export async function listCodeFiles(folder: string): Promise<CodeFiles> {
  const root = await realpath(folder);
  const rules = await readRules(root);
  const walk = new Walk(root, rules.ignored);
  await walk.folder(root, '', [root]);
  if (walk.leftOutModules && rules.file === '.gitignore') {
    walk.warnings.push(
      'node_modules is left out because .gitignore names it. To upload it, add a .lambdaignore file, which then decides alone.',
    );
  }
  // Compared as UTF-16, not by locale: the order must be the same on every machine.
  walk.files.sort((a, b) => (a.path < b.path ? -1 : 1));
  return walk;
}

async function readRules(root: string): Promise<{ ignored: Ignore; file: string | undefined }> {
  const always = ignore().add(ALWAYS_IGNORED);
  for (const file of ['.lambdaignore', '.gitignore']) {
    const text = await readFile(join(root, file), 'utf8').catch((err: NodeJS.ErrnoException) => {
      if (err.code === 'ENOENT') return undefined;
      throw err;
    });
    // The constant rules come last: no pattern of a file brings them back.
    if (text !== undefined) return { ignored: ignore().add(text).add(ALWAYS_IGNORED), file };
  }
  return { ignored: always, file: undefined };
}

class Walk implements CodeFiles {
  readonly files: CodeFile[] = [];
  readonly warnings: string[] = [];
  leftOutModules = false;
  #bytes = 0;

  constructor(
    private readonly root: string,
    private readonly ignored: Ignore,
  ) {}

  /** @param ancestors real paths from the root down to this folder: a link to one of them would never end */
  async folder(source: string, path: string, ancestors: readonly string[]): Promise<void> {
    for (const entry of await readdir(source, { withFileTypes: true })) {
      await this.#entry(entry, join(source, entry.name), path === '' ? entry.name : `${path}/${entry.name}`, ancestors);
    }
  }

  async #entry(entry: Dirent, source: string, path: string, ancestors: readonly string[]): Promise<void> {
    // A rule such as `build/` matches folders only, and `ignore` knows a folder by its final slash.
    const target = entry.isSymbolicLink() ? await this.#followLink(source, path) : source;
    if (target === undefined) return;
    const found = await stat(target);
    if (this.ignored.ignores(found.isDirectory() ? `${path}/` : path)) {
      if (path === 'node_modules') this.leftOutModules = true;
      return;
    }
    if (found.isDirectory()) {
      if (ancestors.includes(target)) throw usageError(`${path} is a link to a folder that it is in.`, IGNORE_IT);
      await this.folder(target, path, [...ancestors, target]);
    } else if (found.isFile()) {
      this.#add({ path, source: target, bytes: found.size, executable: (found.mode & 0o100) !== 0 });
    } else {
      this.warnings.push(`${path} is left out: it is neither a file nor a folder.`);
    }
  }

  /** The real path that a link leads to; undefined for a link that the rules leave out. */
  async #followLink(source: string, path: string): Promise<string | undefined> {
    if (this.ignored.ignores(path) || this.ignored.ignores(`${path}/`)) return undefined;
    let target: string;
    try {
      target = await realpath(source);
    } catch (err) {
      throw usageError(`${path} is a link that leads nowhere (${(err as NodeJS.ErrnoException).code}).`, IGNORE_IT);
    }
    const inside = relative(this.root, target);
    if (inside === '..' || inside.startsWith(`..${sep}`)) {
      throw usageError(`${path} is a link out of the folder, to ${target}, and is not uploaded.`, IGNORE_IT);
    }
    return target;
  }

  #add(file: CodeFile): void {
    this.files.push(file);
    this.#bytes += file.bytes;
    if (this.files.length > ARCHIVE_ENTRIES_MAX) {
      throw usageError(
        `${this.root} has more than ${ARCHIVE_ENTRIES_MAX} files, the most a function may have.`,
        IGNORE_IT,
      );
    }
    if (this.#bytes > UNPACKED_BYTES_MAX) {
      throw usageError(
        `${this.root} holds more than ${bytesText(UNPACKED_BYTES_MAX)}, the most a function may have. ${largestText(this.files)}`,
        IGNORE_IT,
      );
    }
  }
}

const IGNORE_IT = 'Leave out what the function does not need with a line in .lambdaignore.';

/** "The largest: node_modules/x 40.0 MB, …": by the first two path segments, which is where packages are. */
export function largestText(files: readonly Pick<CodeFile, 'path' | 'bytes'>[]): string {
  const bytesBy = new Map<string, number>();
  for (const { path, bytes } of files) {
    const place = path.split('/').slice(0, 2).join('/');
    bytesBy.set(place, (bytesBy.get(place) ?? 0) + bytes);
  }
  const largest = [...bytesBy].sort((a, b) => b[1] - a[1]).slice(0, 3);
  return `The largest: ${largest.map(([place, bytes]) => `${place} ${bytesText(bytes)}`).join(', ')}.`;
}
