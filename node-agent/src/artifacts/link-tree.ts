import { constants, copyFile, link, mkdir, readdir, readlink, symlink } from 'node:fs/promises';
import { join } from 'node:path';

/** Calls in flight: enough to hide the latency of a disk, few enough to leave the thread pool to others. */
const PARALLEL = 16;
const NOT_LINKABLE = new Set(['EXDEV', 'EMLINK', 'EPERM', 'ENOTSUP']);

/** Another filesystem, too many links on one file, or a filesystem or policy without hard links. */
export function isNotLinkable(err: unknown): boolean {
  return err instanceof Error && 'code' in err && NOT_LINKABLE.has(String(err.code));
}

/**
 * Makes the tree of `source` appear inside the existing directory `target`: files as hard links (52 of them take about
 * 1 ms), or as copies where links are impossible.
 *
 * It links straight into the task directory of a sandbox. That directory is bind-mounted, so a finished tree cannot be renamed
 * over it; and nothing looks at a half-linked one, because the runtime reads it only after INIT, which is sent when this
 * has resolved, and a sandbox whose linking failed is destroyed.
 */
export async function linkTree(source: string, target: string): Promise<void> {
  const files: { readonly from: string; readonly to: string }[] = [];
  await makeFolders(source, target, files);
  let next = 0;
  const work = async (): Promise<void> => {
    for (let file = files[next++]; file !== undefined; file = files[next++]) await linkOrCopy(file.from, file.to);
  };
  await Promise.all(Array.from({ length: Math.min(PARALLEL, files.length) }, work));
}

async function makeFolders(source: string, target: string, files: { from: string; to: string }[]): Promise<void> {
  for (const entry of await readdir(source, { withFileTypes: true })) {
    const from = join(source, entry.name);
    const to = join(target, entry.name);
    if (entry.isDirectory()) {
      await mkdir(to, { mode: 0o755 });
      await makeFolders(from, to, files);
    } else if (entry.isSymbolicLink()) {
      await symlink(await readlink(from), to);
    } else {
      files.push({ from, to });
    }
  }
}

async function linkOrCopy(from: string, to: string): Promise<void> {
  try {
    await link(from, to);
  } catch (err) {
    if (!isNotLinkable(err)) throw err;
    await copyFile(from, to, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
  }
}
