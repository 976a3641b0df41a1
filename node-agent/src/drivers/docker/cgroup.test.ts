import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openCgroup, thaw } from './cgroup.js';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'cgroup-'));
});
afterEach(() => rm(directory, { recursive: true }));

const put = (name: string, text: string) => writeFile(join(directory, name), text);

test('version 2 files are read in their own form', async () => {
  await put('cpu.stat', 'usage_usec 1234\nuser_usec 1000\nsystem_usec 234\n');
  await put('memory.peak', '4096\n');
  await put('memory.events', 'low 0\nhigh 0\nmax 3\noom 2\noom_kill 1\n');
  const cgroup = openCgroup({ version: 2, memory: directory, cpu: directory, cpuQuota: directory, freezer: directory });
  expect(cgroup.usage()).toEqual({ cpuUs: 1234, memoryPeakBytes: 4096 });
  expect(cgroup.memoryKills()).toBe(1);
  cgroup.resetPeak();
  expect(await readFile(join(directory, 'memory.peak'), 'utf8')).toMatch(/^0/);
  cgroup.close();
  expect(cgroup.usage()).toBeUndefined();
});

test('version 1 files are read in their own form', async () => {
  await put('cpuacct.usage', '1234567\n');
  await put('memory.max_usage_in_bytes', '4096\n');
  await put('memory.oom_control', 'oom_kill_disable 0\nunder_oom 0\noom_kill 2\n');
  const cgroup = openCgroup({ version: 1, memory: directory, cpu: directory, cpuQuota: directory, freezer: directory });
  expect(cgroup.usage()).toEqual({ cpuUs: 1235, memoryPeakBytes: 4096 });
  expect(cgroup.memoryKills()).toBe(2);
  cgroup.close();
});

test('a cgroup without files gives no figures instead of wrong ones', () => {
  const cgroup = openCgroup({ version: 2, memory: directory, cpu: directory, cpuQuota: directory, freezer: directory });
  expect(cgroup.usage()).toBeUndefined();
  expect(cgroup.memoryKills()).toBeUndefined();
  cgroup.close();
});

const everywhere = () => ({ memory: directory, cpu: directory, cpuQuota: directory, freezer: directory });
const read = (name: string) => readFile(join(directory, name), 'utf8');

test('version 2 limits and freezing are written in their own form', async () => {
  const cgroup = openCgroup({ version: 2, ...everywhere() });
  cgroup.setLimits({ memoryMb: 64, cpus: 0.5 });
  expect(await read('memory.max')).toBe('67108864');
  expect(await read('cpu.max')).toBe('50000 100000');
  cgroup.setYielding(true);
  expect(await read('cpu.weight')).toBe('12');
  cgroup.setYielding(false);
  expect(await read('cpu.weight')).toBe('100');
  cgroup.setFrozen(true);
  expect(await read('cgroup.freeze')).toBe('1');
  thaw({ version: 2, ...everywhere() });
  expect(await read('cgroup.freeze')).toBe('0');
  cgroup.close();
});

test('version 1 limits and freezing are written in their own form, with and without accounting for swap', async () => {
  await put('memory.limit_in_bytes', String(128 * 1024 * 1024));
  const cgroup = openCgroup({ version: 1, ...everywhere() });
  cgroup.setLimits({ memoryMb: 64, cpus: 2 });
  expect(await read('memory.limit_in_bytes')).toBe('67108864');
  expect(await read('cpu.cfs_quota_us')).toBe('200000');
  await put('memory.memsw.limit_in_bytes', '67108864');
  cgroup.setLimits({ memoryMb: 512, cpus: 0.001 });
  expect(await read('memory.memsw.limit_in_bytes')).toBe('536870912');
  expect(await read('memory.limit_in_bytes')).toBe('536870912');
  // The kernel refuses less than a millisecond.
  expect(await read('cpu.cfs_quota_us')).toBe('1000');
  cgroup.setYielding(true);
  expect(await read('cpu.shares')).toBe('128');
  cgroup.setYielding(false);
  expect(await read('cpu.shares')).toBe('1024');
  cgroup.setFrozen(true);
  expect(await read('freezer.state')).toBe('FROZEN');
  thaw({ version: 1, ...everywhere() });
  expect(await read('freezer.state')).toBe('THAWED');
  cgroup.close();
});

test('freezing what is gone does nothing, and limiting it fails', async () => {
  const cgroup = openCgroup({ version: 2, ...everywhere() });
  await rm(directory, { recursive: true });
  cgroup.setFrozen(true);
  cgroup.setFrozen(false);
  expect(() => cgroup.setLimits({ memoryMb: 64, cpus: 1 })).toThrow(/ENOENT/);
  cgroup.close();
  await mkdtemp(join(tmpdir(), 'cgroup-')).then((made) => {
    directory = made;
  });
});
