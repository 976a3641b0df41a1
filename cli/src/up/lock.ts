import { createHash } from 'node:crypto';
import { link, readFile, rm, writeFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
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
    // Each round takes the lock, finds a live holder, or removes one stale lock or waits for who removes it.
    for (let round = 0; round < ROUNDS_MAX; round += 1) {
      if (await linked(mine, file)) {
        return { tookOver, release: () => releaseLock(file, holder) };
      }
      const text = await readText(file);
      if (text === undefined) continue;
      const found = parseHolder(text);
      if (found !== undefined && isAlive(found)) throw new LockHeld(found);
      tookOver = true;
      await removeStale(file, text, mine);
    }
    throw new Error(`the lock ${file} changes hands faster than it can be taken`);
  } finally {
    await rm(mine, { force: true });
  }
}

const ROUNDS_MAX = 100;
const REMOVAL_WAIT_MS = 10;

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
 * Removes a stale lock, if it is still the one that was looked at.
 *
 * A file cannot be removed on condition of what is in it: between the look and the removal another process may have done
 * the same and taken the lock, and its lock would be removed. So the right to remove this one lock is
 * taken first, by a link whose name is the lock's content; while it is held nobody else removes that lock, and what is
 * looked at under it stays.
 */
async function removeStale(file: string, text: string, mine: string): Promise<void> {
  const right = `${file}.stale.${createHash('sha256').update(text).digest('hex').slice(0, 16)}`;
  if (!(await linked(mine, right))) {
    const owner = await readText(right);
    const holder = owner === undefined ? undefined : parseHolder(owner);
    // Its owner died in the few lines below; or it is at work, and done in a moment.
    if (owner !== undefined && (holder === undefined || !isAlive(holder))) await rm(right, { force: true });
    else await delay(REMOVAL_WAIT_MS);
    return;
  }
  try {
    if ((await readText(file)) === text) await rm(file, { force: true });
  } finally {
    await rm(right, { force: true });
  }
}

async function releaseLock(file: string, holder: LockHolder): Promise<void> {
  const text = await readText(file);
  const found = text === undefined ? undefined : parseHolder(text);
  if (found?.pid === holder.pid && found.start === holder.start) await rm(file, { force: true });
}

/** Undefined when there is no such file. */
async function readText(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8');
  } catch (err) {
    if ((err as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw err;
  }
}

/** Undefined for what was not written by this code: then nobody can be alive behind it. */
function parseHolder(text: string): LockHolder | undefined {
  try {
    const parsed = JSON.parse(text) as Partial<LockHolder> | null;
    if (typeof parsed?.pid !== 'number' || typeof parsed.start !== 'string') return undefined;
    return { pid: parsed.pid, start: parsed.start, endpoint: String(parsed.endpoint ?? '') };
  } catch (err) {
    if (err instanceof SyntaxError) return undefined;
    throw err;
  }
}

function isAlive(holder: LockHolder): boolean {
  const start = processStart(holder.pid);
  return start !== undefined && start === holder.start;
}
