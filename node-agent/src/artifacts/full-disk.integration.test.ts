import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLogger } from '@lambda-fleet/common/logger';
import { create } from 'tar';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ArtifactCache } from './artifact-cache.js';

const log = createLogger('test', 'silent');
const MB = 1024 * 1024;

/** A disk of 32 MB, which only root can make. */
let disk: string;
let elsewhere: string;
beforeEach(async () => {
  disk = await mkdtemp(join(tmpdir(), 'disk-'));
  elsewhere = await mkdtemp(join(tmpdir(), 'archives-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=32m', 'none', disk]);
});
afterEach(async () => {
  execFileSync('umount', [disk]);
  await rm(disk, { recursive: true });
  await rm(elsewhere, { recursive: true });
});

test('when others have nearly filled the disk, the cache gives up what is unused, and only that', async () => {
  const archives = new Map<string, Buffer>();
  const publish = async (name: string) => {
    await writeFile(join(elsewhere, name), randomBytes(2 * MB));
    const chunks: Buffer[] = [];
    for await (const chunk of create({ gzip: true, cwd: elsewhere }, [name])) chunks.push(chunk);
    const archive = Buffer.concat(chunks);
    const sha256 = createHash('sha256').update(archive).digest('hex');
    archives.set(sha256, archive);
    return sha256;
  };
  const directory = join(disk, 'artifacts');
  const cache = await ArtifactCache.open({
    directory,
    fetchArtifact: async function* (sha256) {
      yield archives.get(sha256) ?? Buffer.alloc(0);
    },
    log,
  });
  const kept = async () => (await readdir(directory)).filter((name) => name !== 'incoming').sort();
  const names = await Promise.all(['a', 'b', 'c', 'd'].map(publish));
  const [inUse, oldest, older, newest] = names as [string, string, string, string];
  await cache.acquire(inUse);
  for (const sha256 of [oldest, older, newest]) (await cache.acquire(sha256)).release();
  await cache.tidy();
  expect(await kept()).toEqual([inUse, oldest, older, newest].sort());

  // 8 MB are the cache's; 1 MB stays free, and 10 % are 3.2.
  await writeFile(join(disk, 'of somebody else'), Buffer.alloc(23 * MB));
  await cache.tidy();
  await expect.poll(kept).toEqual([inUse, newest].sort());
});
