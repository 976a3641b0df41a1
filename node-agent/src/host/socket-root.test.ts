import { mkdir, mkdtemp, rm, stat, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { makeOwnDirectory, openSocketRoot } from './socket-root.js';

const uid = process.getuid?.() ?? 0;
let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'sockets-'));
});
afterEach(() => rm(root, { recursive: true, force: true }));

test('the folder is short, entered by all and listed by nobody else', async () => {
  const options = { owner: '0123456789abcdef', uid, runtimeDir: root, tmpDir: root };
  const place = await openSocketRoot(options);
  try {
    expect(join(place, 'f'.repeat(16), 'agent.sock').length).toBeLessThan(108);
    expect((await stat(place)).mode & 0o777).toBe(0o711);
    expect(await openSocketRoot(options)).toBe(place);
  } finally {
    await rm(place, { recursive: true, force: true });
  }
});

test('a link or another user’s folder of that name is not used', async () => {
  await mkdir(join(root, 'theirs'));
  await symlink(join(root, 'theirs'), join(root, 'link'));
  await expect(makeOwnDirectory(join(root, 'link'), uid)).rejects.toThrow(/belongs to someone else/);
  await expect(makeOwnDirectory(join(root, 'theirs'), uid + 1)).rejects.toThrow(/belongs to someone else/);
});
