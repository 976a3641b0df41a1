import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CgroupParent } from './cgroup-parent.js';

describe('CgroupParent', () => {
  let root: string;
  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'cgroups-'));
  });
  afterEach(() => rm(root, { recursive: true }));

  it('weighs less than other programs in either version, and leaves other files alone', async () => {
    const first = new CgroupParent('sandboxes', 'abc', 'cgroupfs', root);
    await mkdir(join(root, 'cpu/lambda-sandboxes-abc'), { recursive: true });
    await writeFile(join(root, 'cpu/lambda-sandboxes-abc/cpu.shares'), '1024\n');
    first.yieldToOthers();
    expect(await readFile(join(root, 'cpu/lambda-sandboxes-abc/cpu.shares'), 'utf8')).toMatch(/^128/);

    const second = new CgroupParent('sandboxes', 'abc', 'systemd', root);
    await mkdir(join(root, 'lambda_sandboxes_abc.slice'));
    await writeFile(join(root, 'lambda_sandboxes_abc.slice/cpu.weight'), '100\n');
    second.yieldToOthers();
    expect(await readFile(join(root, 'lambda_sandboxes_abc.slice/cpu.weight'), 'utf8')).toMatch(/^12/);
    expect(await readdir(join(root, 'lambda_sandboxes_abc.slice'))).toEqual(['cpu.weight']);
  });

  it('bears that there is none', async () => {
    const parent = new CgroupParent('builds', 'abc', 'cgroupfs', join(root, 'nowhere'));
    parent.yieldToOthers();
    await parent.remove();
    expect(await readdir(root)).toEqual([]);
  });

  it('removes itself from every controller, unless something is in it', async () => {
    const parent = new CgroupParent('builds', 'abc', 'cgroupfs', root);
    await mkdir(join(root, 'cpu/lambda-builds-abc'), { recursive: true });
    await mkdir(join(root, 'memory/lambda-builds-abc/container'), { recursive: true });
    await mkdir(join(root, 'memory/other'), { recursive: true });
    await parent.remove();
    expect(await readdir(join(root, 'cpu'))).toEqual([]);
    expect((await readdir(join(root, 'memory'))).sort()).toEqual(['lambda-builds-abc', 'other']);
  });
});
