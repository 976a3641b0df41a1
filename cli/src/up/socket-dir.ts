import { createHash } from 'node:crypto';
import { access, constants } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** PostgreSQL's own name in it has to fit into the system's 108 bytes as well. */
const PATH_BYTES_MAX = 90;

/**
 * A short path for the unix socket of a data directory, the same at every start:
 * data directories can be deeper than a socket's path may be long.
 */
export async function socketDir(dataDirRoot: string, runtimeDir: string | undefined): Promise<string> {
  const id = createHash('sha256').update(dataDirRoot).digest('hex').slice(0, 8);
  const isRoot = process.getuid?.() === 0;
  const candidates = [
    ...(isRoot && (await isWritable('/run')) ? [join('/run/lambda', id)] : []),
    ...(!isRoot && runtimeDir !== undefined && (await isWritable(runtimeDir)) ? [join(runtimeDir, 'lambda', id)] : []),
    join(dataDirRoot, 'socket'),
    // Somebody else's folder of this name is refused when its mode is set.
    join(tmpdir(), `lambda-${id}`),
  ];
  const fitting = candidates.find((path) => Buffer.byteLength(path) <= PATH_BYTES_MAX);
  if (fitting === undefined) throw new Error(`no short enough folder for a socket among ${candidates.join(', ')}`);
  return fitting;
}

function isWritable(path: string): Promise<boolean> {
  return access(path, constants.W_OK | constants.X_OK).then(
    () => true,
    () => false,
  );
}
