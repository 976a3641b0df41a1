import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLogger } from '@lambda-fleet/common/logger';
import { create } from 'tar';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ArtifactCache } from './artifact-cache.js';
import { linkTree } from './link-tree.js';

const log = createLogger('test', 'silent');
let root: string;
let directory: string;
let fetches: string[];
let archives: Map<string, Buffer>;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'artifacts-'));
  directory = join(root, 'cache');
  fetches = [];
  archives = new Map();
});
afterEach(() => rm(root, { recursive: true, force: true }));

async function* fetchArtifact(sha256: string): AsyncGenerator<Uint8Array> {
  fetches.push(sha256);
  const archive = archives.get(sha256);
  if (archive === undefined) throw new Error('not found');
  for (let at = 0; at < archive.length; at += 100) yield archive.subarray(at, at + 100);
}

const open = (bytesHigh?: number, bytesLow?: number): Promise<ArtifactCache> =>
  ArtifactCache.open({ directory, bytesHigh, bytesLow, fetchArtifact, log });

async function publish(name: string, bytes = 10_000): Promise<string> {
  const source = await mkdtemp(join(root, 'source-'));
  await writeFile(join(source, name), 'x'.repeat(bytes));
  const chunks: Buffer[] = [];
  for await (const chunk of create({ gzip: true, cwd: source }, [name])) chunks.push(chunk);
  const archive = Buffer.concat(chunks);
  const sha256 = createHash('sha256').update(archive).digest('hex');
  archives.set(sha256, archive);
  return sha256;
}

const kept = async () => (await readdir(directory)).filter((name) => name !== 'incoming').sort();

test('an artifact is fetched once for all who ask at the same time, and then kept', async () => {
  const cache = await open();
  const sha256 = await publish('a.js');
  const leases = await Promise.all([cache.acquire(sha256), cache.acquire(sha256), cache.acquire(sha256)]);
  expect(fetches).toEqual([sha256]);
  expect(new Set(leases.map(({ tree }) => tree)).size).toBe(1);
  expect(await readFile(join(leases[0]?.tree ?? '', 'a.js'), 'utf8')).toHaveLength(10_000);
  await cache.acquire(sha256);
  const reopened = await open();
  await reopened.acquire(sha256);
  expect(fetches).toHaveLength(1);
  expect(reopened.bytes).toBe(cache.bytes);
});

test('an artifact that is not what its name says is refused and leaves nothing', async () => {
  const cache = await open();
  const sha256 = await publish('a.js');
  archives.set('f'.repeat(64), archives.get(sha256) ?? Buffer.alloc(0));
  await expect(cache.acquire('f'.repeat(64))).rejects.toThrow(/checksum/);
  await expect(cache.acquire('../../etc')).rejects.toThrow(/not a sha256/);
  expect(await kept()).toEqual([]);
  expect(await readdir(join(directory, 'incoming'))).toEqual([]);
});

test('a failed fetch is tried again by the next caller', async () => {
  const cache = await open();
  const sha256 = await publish('a.js');
  const archive = archives.get(sha256) ?? Buffer.alloc(0);
  archives.delete(sha256);
  await expect(cache.acquire(sha256)).rejects.toThrow(/not found/);
  archives.set(sha256, archive);
  await expect(cache.acquire(sha256)).resolves.toBeDefined();
});

test('above its size the cache gives up what was used longest ago, and never what is in use', async () => {
  const cache = await open(40_000);
  const [a, b, c] = await Promise.all([publish('a.js'), publish('b.js'), publish('c.js')]);
  const inUse = await cache.acquire(a);
  (await cache.acquire(b)).release();
  (await cache.acquire(c)).release();
  await expect.poll(kept).toEqual([a, c].sort());
  expect(await stat(join(inUse.tree, 'a.js'))).toBeDefined();
  inUse.release();
  inUse.release();
  await cache.acquire(b);
  await expect.poll(kept).toEqual([b, c].sort());
});

test('above the high watermark the cache shrinks to the low one, and above the low one alone not at all', async () => {
  // Each takes 14,096 bytes.
  const cache = await open(60_000, 30_000);
  const use = async (name: string) => {
    const sha256 = await publish(name);
    (await cache.acquire(sha256)).release();
    return sha256;
  };
  const first = [await use('a.js'), await use('b.js'), await use('c.js'), await use('d.js')];
  expect(await kept()).toEqual(first.toSorted());
  const fifth = await use('e.js');
  await expect.poll(kept).toEqual([first[3], fifth].toSorted());
  expect(cache.bytes).toBe(2 * 14_096);
});

test('what was being fetched when the agent died is removed at the next start', async () => {
  await open();
  await writeFile(join(directory, 'incoming', 'half'), 'x');
  const broken = join(directory, 'a'.repeat(64));
  await mkdir(broken);
  await open();
  expect(await readdir(join(directory, 'incoming'))).toEqual([]);
  expect(await kept()).toEqual([]);
});

test('a linked tree shares its files and has its own folders', async () => {
  const cache = await open();
  const source = await mkdtemp(join(root, 'source-'));
  await mkdir(join(source, 'lib'));
  await writeFile(join(source, 'lib', 'a.js'), 'a');
  await symlink('lib/a.js', join(source, 'main.js'));
  const target = join(root, 'task');
  await mkdir(target);
  await linkTree(source, target);
  expect(await readFile(join(target, 'main.js'), 'utf8')).toBe('a');
  expect((await stat(join(target, 'lib/a.js'))).ino).toBe((await stat(join(source, 'lib/a.js'))).ino);
  expect(cache.bytes).toBe(0);
});
