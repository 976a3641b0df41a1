import { chmod, lstat, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { errorText } from '@lambda-fleet/common/errors';

export interface SocketRootOptions {
  /** See {@link ownerOf}. */
  readonly owner: string;
  /** This process's user id. */
  readonly uid: number;
  /** `XDG_RUNTIME_DIR`, where it is set. */
  readonly runtimeDir: string | undefined;
  /** `os.tmpdir()`. */
  readonly tmpDir: string;
}

/** Entered by everyone who knows a name in it, listed by nobody but us. */
const MODE = 0o711;

/**
 * Makes and returns the folder for an agent's sockets. Not the data directory, because a unix socket's path is limited
 * to 107 bytes: `/run/lambda/<8 hex>` where that can be made, else the user's runtime directory, else the temporary one.
 */
export async function openSocketRoot(options: SocketRootOptions): Promise<string> {
  const parents = [
    '/run/lambda',
    ...(options.runtimeDir === undefined ? [] : [join(options.runtimeDir, 'lambda')]),
    join(options.tmpDir, `lambda-${options.uid}`),
  ];
  const failures: string[] = [];
  for (const parent of parents) {
    try {
      await makeOwnDirectory(parent, options.uid);
      const root = join(parent, options.owner.slice(0, 8));
      await makeOwnDirectory(root, options.uid);
      return root;
    } catch (err) {
      failures.push(`${parent}: ${errorText(err)}`);
    }
  }
  throw new Error(`no folder for sockets can be made (${failures.join('; ')})`);
}

/** In a shared folder someone else may have put a directory or link of this name first. */
export async function makeOwnDirectory(path: string, uid: number): Promise<void> {
  try {
    await mkdir(path, { mode: MODE });
    // mkdir's mode is cut by the umask.
    await chmod(path, MODE);
    return;
  } catch (err) {
    if (!(err instanceof Error && 'code' in err && err.code === 'EEXIST')) throw err;
  }
  const info = await lstat(path);
  if (!info.isDirectory() || info.uid !== uid) throw new Error(`${path} belongs to someone else`);
}
