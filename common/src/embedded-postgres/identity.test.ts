import { chmod, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { reachableDataDir } from './identity.js';

/** Somebody who is neither us nor in our group. */
const STRANGER = { uid: 54_321, gid: 54_321 };

describe('reachableDataDir', () => {
  let home: string;
  beforeEach(async () => {
    home = await mkdtemp(join(tmpdir(), 'lf-home-'));
  });
  afterEach(() => rm(home, { recursive: true, force: true }));

  it('is the asked folder where the identity can pass through', async () => {
    await chmod(home, 0o711);
    expect(await reachableDataDir(STRANGER, join(home, 'postgres'))).toBe(join(home, 'postgres'));
    await chmod(home, 0o700);
    expect(await reachableDataDir(undefined, join(home, 'postgres'))).toBe(join(home, 'postgres'));
  });

  it('is elsewhere, and the same each time, below a private folder', async () => {
    const first = await reachableDataDir(STRANGER, join(home, 'data', 'postgres'));
    expect(first).toMatch(/^\/var\/lib\/lambda-fleet\/[0-9a-f]{8}\/postgres$/);
    expect(await reachableDataDir(STRANGER, join(home, 'data', 'postgres'))).toBe(first);
  });

  it('is a new place when the data directory was removed and made again', async () => {
    const first = await reachableDataDir(STRANGER, join(home, 'data', 'postgres'));
    await rm(join(home, 'data'), { recursive: true });
    expect(await reachableDataDir(STRANGER, join(home, 'data', 'postgres'))).not.toBe(first);
  });

  it('never leaves an existing cluster behind without a word', async () => {
    await mkdir(join(home, 'postgres'));
    await expect(reachableDataDir(STRANGER, join(home, 'postgres'))).rejects.toMatchObject({ code: 'unavailable' });
  });
});
