import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { RuntimeName } from '@lambda-fleet/common/runtime-names';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { BlankUnderTest } from '../../test-support/blank-under-test.js';
import { dockerOptions, log } from '../../test-support/host-under-test.js';
import type { CompiledFile } from '../channel/compiled-files.js';
import { DockerDriver } from '../drivers/docker/docker-driver.js';
import { SandboxPlaces } from '../sandboxes/sandbox-directories.js';
import { CodeCache, type CodeCacheKey } from './code-cache.js';
import { linkTree } from './link-tree.js';
import { LinkedTrees } from './linked-trees.js';

const KEY: CodeCacheKey = { artifactSha256: 'a'.repeat(64), platform: 'under test' };

let root: string;
let driver: DockerDriver;
let places: SandboxPlaces;
let trees: LinkedTrees;
const blanks = new Set<BlankUnderTest>();

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'code-cache-'));
  await chmod(root, 0o755);
  driver = await DockerDriver.open({
    nodeId: 'code-cache',
    owner: root.slice(-6).padStart(16, '0'),
    log,
    ...dockerOptions('docker'),
  });
  places = new SandboxPlaces(join(root, 'sandboxes'), join(root, 'sockets'));
  await places.clear();
});
afterEach(async () => {
  await Promise.all([...blanks].map((blank) => blank.stop()));
  blanks.clear();
  await trees.close();
});
afterAll(async () => {
  await driver?.removeLeftovers();
  await rm(root, { recursive: true, force: true });
});

async function artifact(files: Readonly<Record<string, string>>): Promise<string> {
  const tree = await mkdtemp(join(root, 'artifact-'));
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(tree, name)), { recursive: true });
    await writeFile(join(tree, name), text);
  }
  return tree;
}

async function bootWith(runtime: RuntimeName, tree: string): Promise<BlankUnderTest> {
  const blank = await BlankUnderTest.boot(driver, places, runtime);
  blanks.add(blank);
  await linkTree(tree, blank.directories.taskDir);
  return blank;
}

/** A cache with what a sandbox of its own made of the code, and its files. */
async function compiled(runtime: RuntimeName, tree: string): Promise<[CodeCache, readonly CompiledFile[]]> {
  trees = new LinkedTrees(log);
  const cache = await CodeCache.open({ directory: await mkdtemp(join(root, 'cache-')), trees, log });
  let files: readonly CompiledFile[] = [];
  await cache.make(KEY, async () => {
    const blank = await bootWith(runtime, tree);
    files = (await blank.conversation.compile?.()) ?? [];
    return files;
  });
  expect(cache.lacks(KEY)).toBe(false);
  return [cache, files];
}

async function callWith(cache: CodeCache, runtime: RuntimeName, tree: string, handler: string): Promise<unknown> {
  const blank = await bootWith(runtime, tree);
  await cache.place(KEY, blank.directories.cacheDir);
  const { result } = await blank.run(handler);
  return result;
}

const NODE_CODE = {
  // Loads the other two once more in a Node that tells what becomes of its cache.
  'index.js': `
    const { spawnSync } = require('node:child_process');
    const { writeFileSync } = require('node:fs');
    const { dirname } = require('node:path');
    const { part } = require('./part.cjs');
    exports.handler = async () => {
      const { name } = await import('./part.mjs');
      const folder = require('node:module').getCompileCacheDir?.();
      let written = 'written';
      try { writeFileSync('/var/cache/lambda/new', ''); } catch ({ code }) { written = code; }
      if (folder === undefined) return { part, name, written, accepted: [] };
      const script = \`require('node:module').enableCompileCache('\${dirname(folder)}');
        require('/var/task/part.cjs'); import('/var/task/part.mjs');\`;
      const env = { NODE_DEBUG_NATIVE: 'COMPILE_CACHE' };
      const { stderr } = spawnSync(process.execPath, [...process.execArgv, '-e', script], { env, encoding: 'utf8' });
      const accepted = stderr.matchAll(/cache for (?:\\w+ )?(?:file:\\/\\/)?(\\/var\\/task\\/\\S+) was accepted/g);
      return { part, name, written, accepted: [...accepted].map(([, file]) => file).sort() };
    };`,
  'part.cjs': "exports.part = 'cjs'; exports.unused = () => { throw new Error('not called'); };",
  'part.mjs': "import fs from 'node:fs'; export const name = typeof fs.readFile;",
  'ends.cjs': 'process.exit(3);',
  'ends.mjs': "import 'node:fs'; process.exit(3);",
  'spins.js': 'for (;;);',
};

test.each([
  ['nodejs22.x', ['/var/task/part.cjs', '/var/task/part.mjs']],
  ['nodejs24.x', ['/var/task/part.cjs', '/var/task/part.mjs']],
  // It has no cache for ES modules, and none of its own for CommonJS.
  ['nodejs20.x', []],
] as const)('%s compiles code without running it, and takes what was compiled', async (runtime, accepted) => {
  const tree = await artifact(NODE_CODE);
  const [cache, files] = await compiled(runtime, tree);
  expect(files.length > 0).toBe(accepted.length > 0);
  const result = await callWith(cache, runtime, tree, 'index.handler');
  expect(result).toEqual({ part: 'cjs', name: 'function', written: 'EROFS', accepted });
});

test('python3.11 compiles code without running it, and takes what was compiled', async () => {
  const main = 'import lib.part\ndef handler(event):\n    return lib.part.name\n';
  const ends = { 'ends.py': 'import os\nos._exit(3)\n', 'spins.py': 'while True:\n    pass\n' };
  const [cache, files] = await compiled(
    'python3.11',
    await artifact({ ...ends, 'main.py': main, 'lib/part.py': "name = 'compiled'\n" }),
  );
  expect(files.map(({ path }) => path).sort()).toEqual(
    ['ends', 'lib/part', 'main', 'spins'].map((name) => `python/cpython-311/${name}.pyc`),
  );
  const changed = await artifact({ 'main.py': main, 'lib/part.py': "name = 'source'\n" });
  expect(await callWith(cache, 'python3.11', changed, 'main.handler')).toBe('compiled');
});

test('a sandbox that ends while it compiles leaves nothing, and says so', async () => {
  trees = new LinkedTrees(log);
  const cache = await CodeCache.open({ directory: await mkdtemp(join(root, 'cache-')), trees, log });
  const tree = await artifact(NODE_CODE);
  let failure: unknown;
  await cache.make(KEY, async () => {
    const blank = await bootWith('nodejs22.x', tree);
    const compiling = Promise.resolve(blank.conversation.compile?.());
    const told = compiling.catch((err: unknown) => {
      failure = err;
    });
    await blank.instance.stop();
    await told;
    return (await compiling) ?? [];
  });
  expect(failure).toMatchObject({ name: 'ChannelClosed' });
  expect([cache.bytes, cache.lacks(KEY)]).toEqual([0, false]);
});
