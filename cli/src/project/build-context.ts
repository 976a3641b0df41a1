import type { Dirent } from 'node:fs';
import { lstat, readdir, readFile, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import dockerignore, { type Ignore } from '@balena/dockerignore';
import { ARCHIVE_ENTRIES_MAX, UNPACKED_BYTES_MAX } from '@lambda-fleet/common/limits';
import { create } from 'tar';
import { usageError } from '../cli-error.js';
import { bytesText } from '../terminal-text.js';
import { largestText } from './code-files.js';
import { checkArchiveSize } from './pack.js';

export const DOCKERFILE = 'Dockerfile';
const RULES = '.dockerignore';
/** Our own state, in which there is an API key. */
const NEVER_SENT = '.lambda';
/** Sent whatever the rules say: the builder reads both, and then leaves out what the rules leave out. */
const ALWAYS_SENT = [DOCKERFILE, RULES];

export interface BuildContext {
  readonly files: number;
  /** A tar.gz whose bytes depend on the files alone. */
  readonly archive: Uint8Array;
  /** What a person should know about what was left out. */
  readonly warnings: readonly string[];
}

/**
 * Packs a folder with a Dockerfile as `docker build` would: everything but what `.dockerignore` leaves out, by Docker's own rules. Links
 * are sent as links; one that leaves the folder is an error, because the builder would find nothing there.
 */
export async function packBuildContext(folder: string): Promise<BuildContext> {
  const walk = new ContextWalk(folder, await readRules(folder));
  await walk.directory('');
  // Compared as UTF-16, not by locale: the order must be the same on every machine.
  walk.paths.sort((a, b) => (a < b ? -1 : 1));
  const chunks: Buffer[] = [];
  const options = {
    cwd: folder,
    gzip: { level: 6, portable: true },
    portable: true,
    mtime: new Date(0),
    noDirRecurse: true,
  };
  for await (const chunk of create(options, walk.paths)) chunks.push(chunk as Buffer);
  const archive = Buffer.concat(chunks);
  checkArchiveSize(archive.length, largestText(walk.files));
  return { files: walk.files.length, archive, warnings: walk.warnings };
}

interface Rules {
  readonly ignored: Ignore;
  /** Some rule takes back what another left out, so folders that are left out have to be looked into. */
  readonly hasExceptions: boolean;
}

async function readRules(folder: string): Promise<Rules> {
  const text = await readFile(join(folder, RULES), 'utf8').catch((err: NodeJS.ErrnoException) => {
    if (err.code === 'ENOENT') return '';
    throw err;
  });
  // Docker skips a byte order mark.
  const rules = text.replace(/^\uFEFF/, '');
  return { ignored: dockerignore.default({ ignorecase: false }).add(rules), hasExceptions: /^\s*!/m.test(rules) };
}

class ContextWalk {
  /** Everything that is sent, folders and links too. */
  readonly paths: string[] = [];
  readonly files: { readonly path: string; readonly bytes: number }[] = [];
  readonly warnings: string[] = [];
  #bytes = 0;

  constructor(
    private readonly root: string,
    private readonly rules: Rules,
  ) {}

  async directory(path: string): Promise<void> {
    for (const entry of await readdir(join(this.root, path), { withFileTypes: true })) {
      await this.#entry(entry, path === '' ? entry.name : `${path}/${entry.name}`);
    }
  }

  async #entry(entry: Dirent, path: string): Promise<void> {
    if (path === NEVER_SENT) return;
    const ignored = !ALWAYS_SENT.includes(path) && this.rules.ignored.ignores(path);
    if (entry.isDirectory()) {
      if (!ignored) this.#add(path);
      if (!ignored || this.rules.hasExceptions) await this.directory(path);
    } else if (ignored) {
      return;
    } else if (entry.isSymbolicLink()) {
      checkLink(path, await readlink(join(this.root, path)));
      this.#add(path);
    } else if (entry.isFile()) {
      const { size } = await lstat(join(this.root, path));
      this.files.push({ path, bytes: size });
      this.#bytes += size;
      this.#add(path);
    } else {
      this.warnings.push(`${path} is left out: it is neither a file, a folder nor a link.`);
    }
  }

  #add(path: string): void {
    this.paths.push(path);
    if (this.paths.length > ARCHIVE_ENTRIES_MAX) {
      throw usageError(
        `${this.root} has more than ${ARCHIVE_ENTRIES_MAX} files and folders, the most that are sent.`,
        IGNORE_IT,
      );
    }
    if (this.#bytes > UNPACKED_BYTES_MAX) {
      throw usageError(
        `${this.root} holds more than ${bytesText(UNPACKED_BYTES_MAX)}, the most that is sent. ${largestText(this.files)}`,
        IGNORE_IT,
      );
    }
  }
}

const IGNORE_IT = `Leave out what the build does not need with a line in ${RULES}.`;

/** Whether a link is what the server takes: a way up and then down, that stays inside. */
function checkLink(path: string, target: string): void {
  const parts = target.replace(/^\.\//, '').replace(/\/$/, '').split('/');
  const firstName = parts.findIndex((part) => part !== '..');
  const ups = firstName === -1 ? parts.length : firstName;
  const depth = path.split('/').length - 1;
  if (target.startsWith('/') || ups > depth) {
    throw usageError(`${path} is a link out of the folder, to ${target}, and is not sent.`, IGNORE_IT);
  }
  if (parts.slice(ups).some((part) => part === '..' || part === '.' || part === '')) {
    throw usageError(`${path} is a link to ${target}, which is not the shortest way there.`, IGNORE_IT);
  }
}
