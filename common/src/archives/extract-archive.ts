import { chmod, mkdir, open, symlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { ArchiveSource } from './archive-entry.js';
import { type ArchiveLimits, DEFAULT_ARCHIVE_LIMITS } from './entry-rules.js';
import { type WalkedArchive, walkArchive } from './walk-archive.js';

const DIRECTORY_MODE = 0o755;
const FILE_MODE = 0o644;
const EXECUTABLE_MODE = 0o755;

/**
 * Extracts an archive into `directory`, which must exist, be empty and be known to nobody else. Files become 0644
 * (0755 when executable), directories 0755, owner is this process. Throws FleetError `invalid_archive` or
 * `archive_too_large`; after any error the directory holds a part of the archive and the caller removes it.
 */
export async function extractArchive(
  source: ArchiveSource,
  directory: string,
  limits: ArchiveLimits = DEFAULT_ARCHIVE_LIMITS,
): Promise<WalkedArchive> {
  const made = new Set<string>(['.']);
  const makeDirectory = async (path: string): Promise<void> => {
    if (made.has(path)) return;
    await makeDirectory(dirname(path));
    await mkdir(join(directory, path));
    // mkdir's mode is cut by the umask.
    await chmod(join(directory, path), DIRECTORY_MODE);
    made.add(path);
  };
  const links: { readonly path: string; readonly target: string }[] = [];
  const walked = await walkArchive(source, limits, async (entry, content) => {
    if (entry.kind === 'directory') {
      await makeDirectory(entry.path);
      return;
    }
    await makeDirectory(dirname(entry.path));
    if (entry.kind === 'symlink') links.push(entry);
    else await writeFile(join(directory, entry.path), entry.executable ? EXECUTABLE_MODE : FILE_MODE, content);
  });
  // Last, so that nothing above could have been written through one.
  for (const { path, target } of links) await symlink(target, join(directory, path));
  return walked;
}

async function writeFile(path: string, mode: number, content: AsyncIterable<Uint8Array>): Promise<void> {
  const file = await open(path, 'wx', mode);
  try {
    await file.chmod(mode);
    for await (const chunk of content) await file.writeFile(chunk);
  } finally {
    await file.close();
  }
}
