import { mkdir, mkdtemp, readdir, readFile, readlink, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLogger } from '@lambda-fleet/common/logger';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { LinkedTrees } from './linked-trees.js';

let root: string;
let trees: LinkedTrees;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'linked-'));
  trees = new LinkedTrees(createLogger('test', 'silent'));
});
afterEach(async () => {
  await trees.close();
  await rm(root, { recursive: true, force: true });
});

async function artifact(files: number): Promise<string> {
  const tree = join(root, 'artifact', 'tree');
  await mkdir(join(tree, 'folder', 'deep'), { recursive: true });
  for (let n = 0; n < files; n += 1)
    await writeFile(join(tree, n % 2 === 0 ? 'folder/deep' : '', `${n}.js`), String(n));
  await symlink('folder/deep/0.js', join(tree, 'link.js'));
  return tree;
}

async function placed(tree: string, files: number): Promise<string> {
  const target = await mkdtemp(join(root, 'task-'));
  await trees.place(tree, files, target);
  expect((await readdir(target, { recursive: true })).toSorted()).toEqual(
    (await readdir(tree, { recursive: true })).toSorted(),
  );
  expect(await readFile(join(target, 'folder/deep/0.js'), 'utf8')).toBe('0');
  expect(await readlink(join(target, 'link.js'))).toBe('folder/deep/0.js');
  expect((await stat(join(target, '1.js'))).ino).toBe((await stat(join(tree, '1.js'))).ino);
  return target;
}

const beside = async () => (await readdir(join(root, 'artifact'))).toSorted();

test('a small tree is linked, and no spare is kept of it', async () => {
  const tree = await artifact(10);
  await placed(tree, 12);
  await placed(tree, 12);
  await trees.close();
  expect(await beside()).toEqual(['tree']);
});

test('of a large tree a spare is kept, moved into the next task directory and made again', async () => {
  const tree = await artifact(100);
  await placed(tree, 102);
  await expect.poll(beside).toEqual(['spare', 'tree']);
  const spare = (await stat(join(root, 'artifact/spare/folder'))).ino;
  const target = await placed(tree, 102);
  expect((await stat(join(target, 'folder'))).ino).toBe(spare);
  await expect.poll(beside).toEqual(['spare', 'tree']);
});

test('two that want the spare at the same time both get a whole tree', async () => {
  const tree = await artifact(100);
  await placed(tree, 102);
  await expect.poll(beside).toEqual(['spare', 'tree']);
  const [a, b] = await Promise.all([placed(tree, 102), placed(tree, 102)]);
  expect((await stat(join(a, 'folder'))).ino).not.toBe((await stat(join(b, 'folder'))).ino);
});

test('an artifact that is removed while its spare is made leaves nothing', async () => {
  const tree = await artifact(100);
  await placed(tree, 102);
  await rm(join(root, 'artifact'), { recursive: true });
  await new Promise((resolve) => setTimeout(resolve, 400));
  await trees.close();
  expect((await readdir(root)).filter((name) => name === 'artifact')).toEqual([]);
});
