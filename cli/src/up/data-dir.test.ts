import { mkdir, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { discardTemporary, prepareDataDir } from './data-dir.js';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lambda-data-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

describe('the data directory', () => {
  it('can be read by nobody else, also when it was there with a wider mode', async () => {
    const root = join(folder, 'a/b');
    const { mode } = await stat((await prepareDataDir(root)).root);
    expect(mode & 0o066).toBe(0);
    expect((await stat(join(root, 'pki'))).mode & 0o077).toBe(0);
    expect((await prepareDataDir(root)).temporary).toBe(false);
  });

  it('falls back to a temporary one that is gone afterwards, and says why', async () => {
    await writeFile(join(folder, 'file'), '');
    const dataDir = await prepareDataDir(join(folder, 'file/data'));
    expect(dataDir).toMatchObject({ temporary: true, problem: 'ENOTDIR' });
    expect((await stat(dataDir.root)).mode & 0o066).toBe(0);
    await discardTemporary(dataDir);
    await expect(stat(dataDir.root)).rejects.toThrow('ENOENT');
  });

  it('leaves a folder with other files alone', async () => {
    const home = join(folder, 'home');
    await mkdir(home, { mode: 0o755 });
    await writeFile(join(home, 'letter.txt'), '');
    await expect(prepareDataDir(home)).rejects.toThrow('is not a data directory');
    expect((await stat(home)).mode & 0o777).toBe(0o755);
  });
});
