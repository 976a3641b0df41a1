import { cp, mkdir, realpath, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';

const OTHERS_READ = 0o4;
const OTHERS_ENTER = 0o1;

/**
 * Whether an unprivileged user that owns nothing can read `path`: all folders above must let others in. A private home
 * folder (0700) is the usual reason why not.
 */
export async function isReachable(path: string): Promise<boolean> {
  try {
    const real = await realpath(path);
    const info = await stat(real);
    const needed = info.isDirectory() ? OTHERS_READ | OTHERS_ENTER : OTHERS_READ;
    if ((info.mode & needed) !== needed) return false;
    for (let folder = dirname(real); ; folder = dirname(folder)) {
      if (((await stat(folder)).mode & OTHERS_ENTER) === 0) return false;
      if (folder === dirname(folder)) return true;
    }
  } catch (err) {
    if (err instanceof Error && 'code' in err && err.code === 'ENOENT') return false;
    throw err;
  }
}

/** `path` itself when an unprivileged user can read it, else a copy of the file or folder in `folder`, which it can. */
export async function reachableCopy(path: string, folder: string): Promise<string> {
  if (await isReachable(path)) return path;
  const copy = join(folder, basename(path));
  await mkdir(folder, { recursive: true, mode: 0o755 });
  await rm(copy, { recursive: true, force: true });
  await cp(path, copy, { recursive: true, dereference: true });
  return copy;
}
