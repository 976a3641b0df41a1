import { link, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { processStart } from './process-identity.js';

export interface LockHolder {
  readonly pid: number;
  /** See {@link processStart}. */
  readonly start: string;
  readonly endpoint: string;
}

export interface Lock {
  /** A process that held it before died without releasing it. */
  readonly tookOver: boolean;
  release(): Promise<void>;
}

/** The data directory belongs to a `lambda up` that is running. */
export class LockHeld extends Error {
  override readonly name = 'LockHeld';

  constructor(readonly holder: LockHolder) {
    super(`held by pid ${holder.pid}`);
  }
}

/**
 * Takes the lock file of a data directory, or throws {@link LockHeld}.
 *
 * The file is written beside its place and linked into it: `link` fails when
 * the name is taken, and nobody ever reads a half-written lock.
 */
export async function takeLock(file: string, endpoint: string): Promise<Lock> {
  const holder: LockHolder = { pid: process.pid, start: processStart(process.pid) ?? '', endpoint };
  const mine = `${file}.${process.pid}`;
  await writeFile(mine, JSON.stringify(holder), { mode: 0o600 });
  let tookOver = false;
  try {
    // Each round either takes the lock, finds a live holder, or removes one stale lock.
    for (let round = 0; round < 10; round += 1) {
      if (await linked(mine, file)) {
        return { tookOver, release: () => releaseLock(file, holder) };
      }
      const found = await readHolder(file);
      if (found !== undefined && isAlive(found)) throw new LockHeld(found);
      tookOver = (await removeStale(file)) || tookOver;
    }
    throw new Error(`the lock ${file} changes hands faster than it can be taken`);
  } finally {
    await rm(mine, { force: true });
  }
}

async function linked(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to);
    return true;
  } catch (err) {
    if ((err as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw err;
  }
}

/**
 * Moves a stale lock away. Between the look and the move another process may
 * have done the same and taken the lock: what was moved is looked at again, and
 * put back when it turns out to be alive.
 */
async function removeStale(file: string): Promise<boolean> {
  const aside = `${file}.stale.${process.pid}`;
  try {
    await rename(file, aside);
  } catch (err) {
    if ((err as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw err;
  }
  const moved = await readHolder(aside);
  const wasAlive = moved !== undefined && isAlive(moved);
  if (wasAlive) await linked(aside, file);
  await rm(aside, { force: true });
  return !wasAlive;
}

async function releaseLock(file: string, holder: LockHolder): Promise<void> {
  const found = await readHolder(file);
  if (found?.pid === holder.pid && found.start === holder.start) await rm(file, { force: true });
}

/** Undefined when there is no lock, or one that was not written by this code: then nobody can be alive behind it. */
async function readHolder(file: string): Promise<LockHolder | undefined> {
  try {
    const parsed = JSON.parse(await readFile(file, 'utf8')) as Partial<LockHolder> | null;
    if (typeof parsed?.pid !== 'number' || typeof parsed.start !== 'string') return undefined;
    return { pid: parsed.pid, start: parsed.start, endpoint: String(parsed.endpoint ?? '') };
  } catch (err) {
    if ((err as NodeJS.ErrnoException).code === 'ENOENT' || err instanceof SyntaxError) return undefined;
    throw err;
  }
}

function isAlive(holder: LockHolder): boolean {
  const start = processStart(holder.pid);
  return start !== undefined && start === holder.start;
}
