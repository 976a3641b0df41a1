import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openCgroup } from './cgroup.js';

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
