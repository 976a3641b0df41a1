import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';

export interface Identity {
  readonly uid: number;
  readonly gid: number;
}

/** `nobody`. It needs an entry in the user database: initdb looks its own uid up. */
const NOBODY: Identity = { uid: 65534, gid: 65534 };

/** PostgreSQL refuses to run as root; everyone else runs it as themselves. */
export function postgresIdentity(): Identity | undefined {
  return process.getuid?.() === 0 ? NOBODY : undefined;
}

/** Whether `identity` may enter every folder above `path` and read and run `path` itself, as far as it exists. */
export async function canReach(identity: Identity, path: string): Promise<boolean> {
  for (let at = resolve(path); ; at = dirname(at)) {
    const found = await stat(at).catch(() => undefined);
    if (found !== undefined) {
      const shift = found.uid === identity.uid ? 6 : found.gid === identity.gid ? 3 : 0;
      const needed = at === resolve(path) && found.isFile() ? 0o5 : 0o1;
      if (((found.mode >> shift) & needed) !== needed) return false;
    }
    if (at === dirname(at)) return true;
  }
}

/**
 * Where the cluster really lives: the asked folder, or a place of its own under
 * `/var/lib` when the identity cannot enter a folder above the asked one.
 */
export async function reachableDataDir(identity: Identity | undefined, asked: string): Promise<string> {
  const absolute = resolve(asked);
  if (identity === undefined || (await canReach(identity, dirname(absolute)))) return absolute;
  const id = createHash('sha256').update(absolute).digest('hex').slice(0, 8);
  return join('/var/lib/lambda-fleet', id, 'postgres');
}
