import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { checkCgroups } from './cgroup-checks.js';
import { check, fromFindings, isAtLeast } from './check.js';
import { checkDataDir, checkSocketDir } from './directory-checks.js';
import { checkKernel, checkMemory, checkNode, checkUser } from './machine-checks.js';

const MB = 1024 * 1024;
let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'doctor-'));
});
afterEach(() => rm(root, { recursive: true, force: true }));

const statusOf = async (found: Parameters<typeof check>[1]) => (await check('it', found)).status;

test.each([
  ['20.10.24+dfsg1', [20, 10], true],
  ['20.10', [20, 10], true],
  ['19.03.15', [20, 10], false],
  ['6.18.44-generic', [4, 15], true],
  ['4.9.0', [4, 15], false],
  ['', [1], false],
])('%s is at least %j: %s', (version, floor, expected) => {
  expect(isAtLeast(version, floor)).toBe(expected);
});

test('a check that throws has failed, and says why', async () => {
  const broken = await check('it', () => {
    throw new Error('the reason');
  });
  expect(broken).toMatchObject({ name: 'it', status: 'failed', detail: 'the reason' });
});

test('of several findings those that make it fail are told', () => {
  const warned = { severity: 'warning', problem: 'ugly', advice: 'paint it' } as const;
  const broken = { severity: 'failed', problem: 'broken', advice: 'mend it' } as const;
  expect(fromFindings('a door', [])).toBe('a door');
  expect(fromFindings('a door', [warned])).toEqual({ status: 'warning', detail: 'a door: ugly', advice: 'paint it' });
  expect(fromFindings('a door', [warned, broken])).toEqual({
    status: 'failed',
    detail: 'a door: broken',
    advice: 'mend it',
  });
});

test.each([
  ['a new Node', () => checkNode('22.1.0'), 'ok'],
  ['an old Node', () => checkNode('20.18.3'), 'failed'],
  ['a new kernel', () => checkKernel('linux', '6.1.0-18-amd64'), 'ok'],
  ['an old kernel', () => checkKernel('linux', '3.10.0'), 'failed'],
  ['another system', () => checkKernel('darwin', '24.0.0'), 'warning'],
  ['root', () => checkUser(0), 'ok'],
  ['another user', () => checkUser(1000), 'warning'],
  ['enough memory', () => checkMemory(8_000 * MB, 4_000 * MB), 'ok'],
  ['little memory', () => checkMemory(8_000 * MB, 900 * MB), 'warning'],
  ['hardly any memory', () => checkMemory(8_000 * MB, 100 * MB), 'failed'],
  ['memory that is not told', () => checkMemory(8_000 * MB, undefined), 'ok'],
])('%s', async (_what, look, status) => {
  expect(await statusOf(look)).toBe(status);
});

describe('cgroups', () => {
  test('of version 1 need all their controllers', async () => {
    for (const name of ['memory', 'cpu', 'cpuacct', 'pids']) await mkdir(join(root, name));
    expect(await check('it', () => checkCgroups('6.1.0', root))).toMatchObject({
      status: 'failed',
      detail: expect.stringContaining('freezer'),
    });
    await mkdir(join(root, 'freezer'));
    expect(await statusOf(() => checkCgroups('6.1.0', root))).toBe('ok');
  });

  test('of version 2 need all their controllers, and a kernel that freezes them', async () => {
    await writeFile(join(root, 'cgroup.procs'), '');
    await writeFile(join(root, 'cgroup.controllers'), 'cpuset cpu io pids\n');
    expect(await check('it', () => checkCgroups('6.1.0', root))).toMatchObject({
      status: 'failed',
      detail: expect.stringContaining('memory'),
    });
    await writeFile(join(root, 'cgroup.controllers'), 'cpuset cpu io memory pids\n');
    expect(await statusOf(() => checkCgroups('6.1.0', root))).toBe('ok');
    expect(await statusOf(() => checkCgroups('4.19.0', root))).toBe('warning');
  });
});

describe('the data directory', () => {
  test('may be there or still be made, and nothing is left in it', async () => {
    expect(await checkDataDir(root)).toBe(root);
    expect(await checkDataDir(join(root, 'new', 'deep'))).toBe(`${join(root, 'new', 'deep')} will be made in ${root}`);
    expect(await readdir(root)).toEqual([]);
  });

  test('must be writable', async () => {
    const file = join(root, 'file');
    await writeFile(file, '');
    expect(await checkDataDir(join(file, 'below'))).toMatchObject({
      status: 'failed',
      advice: expect.stringContaining('--data-dir'),
    });
  });
});

test('sockets need one folder of three', async () => {
  const uid = process.getuid?.() ?? 0;
  expect(await statusOf(() => checkSocketDir({ owner: 'a'.repeat(16), uid, runtimeDir: root, tmpDir: root }))).toBe(
    'ok',
  );
  const nobody = { owner: 'a'.repeat(16), uid: uid + 1, runtimeDir: '/proc', tmpDir: '/proc' };
  expect(await statusOf(() => checkSocketDir(nobody))).toBe('failed');
});
