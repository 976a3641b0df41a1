import { mkdir, mkdtemp, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLogger } from '@lambda-fleet/common/logger';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { CompiledFile } from '../channel/compiled-files.js';
import { CodeCache, type CodeCacheKey } from './code-cache.js';
import { LinkedTrees } from './linked-trees.js';

const log = createLogger('test', 'silent');
let root: string;
let directory: string;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'code-cache-'));
  directory = join(root, 'cache');
  trees = new LinkedTrees(log);
});
afterEach(async () => {
  vi.useRealTimers();
  await trees.close();
  await rm(root, { recursive: true, force: true });
});

let trees: LinkedTrees;
const open = (bytesMax?: number): Promise<CodeCache> => CodeCache.open({ directory, bytesMax, trees, log });
const key = (digit: string, platform = 'node-22 runc 128'): CodeCacheKey => ({
  artifactSha256: digit.repeat(64),
  platform,
});
const files = (bytes = 10): CompiledFile[] => [
  { path: 'node/v22/0a', bytes: Buffer.alloc(bytes, 'a') },
  { path: 'python/cpython-311/lib/part.pyc', bytes: Buffer.from('b') },
];
const compile = (bytes?: number) => async () => files(bytes);
const kept = async () => (await readdir(directory)).filter((name) => name !== 'incoming').length;

async function placed(cache: CodeCache, of: CodeCacheKey): Promise<string[] | undefined> {
  const target = await mkdtemp(join(root, 'target-'));
  if (!(await cache.place(of, target))) return undefined;
  const entries = await readdir(target, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(target.length + 1))
    .sort();
}

test('what was compiled is linked into every sandbox of that platform, also after a restart', async () => {
  const cache = await open();
  expect(await placed(cache, key('a'))).toBeUndefined();
  await cache.make(key('a'), compile());
  const names = ['node/v22/0a', 'python/cpython-311/lib/part.pyc'];
  expect(await placed(cache, key('a'))).toEqual(names);
  expect(await placed(cache, key('a', 'node-24 runc 128'))).toBeUndefined();
  expect(await placed(cache, key('b'))).toBeUndefined();
  const reopened = await open();
  expect(reopened.bytes).toBe(cache.bytes);
  expect(await placed(reopened, key('a'))).toEqual(names);
});

test('a sandbox of another user can read it, whatever the umask', async () => {
  const before = process.umask(0o077);
  try {
    const cache = await open();
    await cache.make(key('a'), compile());
    const [name = ''] = (await readdir(directory)).filter((entry) => entry !== 'incoming');
    expect((await stat(join(directory, name, 'tree/node/v22/0a'))).mode & 0o777).toBe(0o644);
  } finally {
    process.umask(before);
  }
});

test('the same is made once, and different ones one after the other', async () => {
  const cache = await open();
  let running = 0;
  let most = 0;
  let calls = 0;
  const slow = async () => {
    calls += 1;
    running += 1;
    most = Math.max(most, running);
    await new Promise((resolve) => setImmediate(resolve));
    running -= 1;
    return files();
  };
  const all = [key('a'), key('a'), key('b'), key('a'), key('c')].map((one) => cache.make(one, slow));
  expect(cache.lacks(key('a'))).toBe(false);
  await Promise.all(all);
  await cache.make(key('a'), slow);
  expect([calls, most]).toEqual([3, 1]);
});

test('a failure leaves nothing, and is tried again only after a while', async () => {
  vi.useFakeTimers({ toFake: ['Date'] });
  const cache = await open();
  await cache.make(key('a'), async () => {
    throw new Error('the sandbox ran out of memory');
  });
  expect([await kept(), await readdir(join(directory, 'incoming'))]).toEqual([0, []]);
  expect([cache.lacks(key('a')), cache.lacks(key('b'))]).toEqual([false, true]);
  await cache.make(key('a'), compile());
  expect(await placed(cache, key('a'))).toBeUndefined();
  vi.setSystemTime(Date.now() + 10 * 60_000);
  expect(cache.lacks(key('a'))).toBe(true);
  await cache.make(key('a'), compile());
  expect(await placed(cache, key('a'))).toHaveLength(2);
});

test('code of which nothing can be compiled is not compiled again', async () => {
  const cache = await open();
  await cache.make(key('a'), async () => []);
  expect(cache.lacks(key('a'))).toBe(false);
  expect(await placed(cache, key('a'))).toEqual([]);
  expect((await open()).lacks(key('a'))).toBe(false);
});

test('above its limit it gives up the least recently used, never what has just come', async () => {
  const cache = await open(400_000);
  await cache.make(key('a'), compile(100_000));
  await cache.make(key('b'), compile(100_000));
  await cache.make(key('c'), compile(100_000));
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 1000 });
  expect(await placed(cache, key('a'))).toHaveLength(2);
  vi.setSystemTime(Date.now() + 1000);
  await cache.make(key('d'), compile(100_000));
  const present = ['a', 'b', 'c', 'd'].map((digit) => !cache.lacks(key(digit)));
  expect(present).toEqual([true, false, false, true]);
  expect(cache.bytes).toBeLessThanOrEqual(400_000);
  await cache.make(key('e'), compile(500_000));
  expect(cache.lacks(key('e'))).toBe(false);
});

test('a tree that was given up lives on where it is linked, and is made again', async () => {
  const cache = await open(150_000);
  await cache.make(key('a'), compile(100_000));
  const target = await mkdtemp(join(root, 'target-'));
  await cache.place(key('a'), target);
  await cache.make(key('b'), compile(100_000));
  expect(cache.lacks(key('a'))).toBe(true);
  expect(await readFile(join(target, 'node/v22/0a'))).toHaveLength(100_000);
  await cache.make(key('a'), compile(1));
  expect(await placed(cache, key('a'))).toHaveLength(2);
});

test('a tree that is gone from the disk means a slower start, not a failure', async () => {
  const cache = await open();
  await cache.make(key('a'), compile());
  for (const name of await readdir(directory)) await rm(join(directory, name), { recursive: true });
  expect(await placed(cache, key('a'))).toBeUndefined();
});

test('what an agent left unfinished is removed at the next start', async () => {
  const first = await open();
  await first.make(key('a'), compile());
  await mkdir(join(directory, 'incoming', 'half'));
  await mkdir(join(directory, `${'b'.repeat(64)}-${'0'.repeat(16)}`, 'tree'), { recursive: true });
  await writeFile(join(directory, 'incoming', 'half', 'x'), '');
  const cache = await open();
  expect(await readdir(join(directory, 'incoming'))).toEqual([]);
  expect(await kept()).toBe(1);
  expect(cache.bytes).toBe(first.bytes);
});

test('use is remembered over a restart', async () => {
  const first = await open();
  for (const digit of ['a', 'b']) await first.make(key(digit), compile(100_000));
  const names = (await readdir(directory)).filter((name) => name !== 'incoming').sort();
  const old = new Date(Date.now() - 60_000);
  await utimes(join(directory, names[0] ?? '', 'entry.json'), new Date(), new Date());
  await utimes(join(directory, names[1] ?? '', 'entry.json'), old, old);
  const cache = await open(150_000);
  expect([cache.lacks(key('a')), cache.lacks(key('b'))]).toEqual([false, true]);
});

test('closing waits for what is being made, and drops what waits', async () => {
  const cache = await open();
  let release: (compiled: CompiledFile[]) => void = () => {};
  void cache.make(key('a'), () => new Promise((resolve) => (release = resolve)));
  let begun = false;
  void cache.make(key('b'), async () => {
    begun = true;
    return files();
  });
  await new Promise((resolve) => setImmediate(resolve));
  const closing = cache.close();
  release(files());
  await closing;
  expect([await kept(), begun, cache.lacks(key('c'))]).toEqual([1, false, false]);
});
