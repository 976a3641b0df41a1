import { randomBytes } from 'node:crypto';
import { mkdir, readlink, stat, symlink } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { FleetError } from '../errors.js';

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

const ELSEWHERE = '/var/lib/lambda-fleet';

/**
 * Where the cluster really lives: the asked folder, or a place of its own under
 * `/var/lib` when the identity cannot enter a folder above the asked one. A link at
 * the asked place then leads there, so that removing the data directory forgets the
 * cluster, and a new directory of the same name never finds an old cluster again.
 *
 * @throws FleetError `unavailable` when a cluster stands at the asked place and the identity cannot reach it any more
 */
export async function reachableDataDir(identity: Identity | undefined, asked: string): Promise<string> {
  const absolute = resolve(asked);
  const linked = await readlink(absolute).catch(() => undefined);
  if (linked?.startsWith(`${ELSEWHERE}/`)) return linked;
  if (identity === undefined || (await canReach(identity, dirname(absolute)))) return absolute;
  if ((await stat(absolute).catch(() => undefined)) !== undefined) {
    throw new FleetError(
      'unavailable',
      `PostgreSQL runs as uid ${identity.uid} and cannot enter a folder above its data in ${absolute} any more. Let others pass through (chmod o+x), or move the data directory.`,
    );
  }
  const place = join(ELSEWHERE, randomBytes(4).toString('hex'), 'postgres');
  await mkdir(dirname(absolute), { recursive: true });
  await symlink(place, absolute);
  return place;
}
