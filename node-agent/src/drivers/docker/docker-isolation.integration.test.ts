import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { VersionSpec } from '@lambda-fleet/proto';
import Docker from 'dockerode';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { HostUnderTest } from '../../../test-support/host-under-test.js';
import { locateCgroup } from './cgroup.js';

const MB = 1024 * 1024;
const MEMORY_MB = 192;

/** Runs what it is asked to, in the sandbox, and says what happened. */
const PROBE = `
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import { spawn, execFileSync } from 'node:child_process';
const attempt = (work) => { try { return work() ?? 'done'; } catch (e) { return e.code ?? e.message; } };
const dial = (options) => new Promise((resolve) => {
  const socket = net.connect({ timeout: 2000, ...options }, () => { socket.destroy(); resolve('connected'); });
  socket.on('error', (e) => resolve(e.code));
  socket.on('timeout', () => { socket.destroy(); resolve('timeout'); });
});
const probes = {
  status: () => fs.readFileSync('/proc/self/status', 'utf8'),
  interfaces: () => fs.readdirSync('/sys/class/net'),
  routes: () => fs.readFileSync('/proc/net/route', 'utf8').trim().split('\\n').length - 1,
  dial: ({ host, port, path }) => dial(path ? { path } : { host, port }),
  write: ({ path }) => attempt(() => fs.writeFileSync(path, 'x')),
  chmod: ({ path }) => attempt(() => fs.chmodSync(path, 0o777)),
  unlink: ({ path }) => attempt(() => fs.unlinkSync(path)),
  exists: ({ path }) => fs.existsSync(path),
  run: () => {
    fs.writeFileSync('/tmp/tool', '#!/bin/sh\\necho ran', { mode: 0o755 });
    return execFileSync('/tmp/tool', { encoding: 'utf8' }).trim();
  },
  mounts: () => fs.readFileSync('/proc/self/mountinfo', 'utf8'),
  fill: () => attempt(() => { for (let i = 0; i < 50; i++) fs.appendFileSync('/tmp/fill', Buffer.alloc(8e6)); }),
  forks: async () => {
    let failed = 0;
    const children = [];
    for (let i = 0; i < 100; i++) {
      const child = spawn('/bin/sleep', ['5']);
      child.on('error', () => { failed += 1; });
      children.push(child);
    }
    await new Promise((r) => setTimeout(r, 300));
    for (const child of children) child.kill('SIGKILL');
    return failed;
  },
  descriptors: () => { let n = 0; const code = attempt(() => { for (; n < 5000; n++) fs.openSync('/dev/null'); }); return { n, code }; },
  hostname: () => os.hostname(),
  compute: ({ ms }) => { const until = Date.now() + ms; while (Date.now() < until); },
  input: () => fs.readFileSync(0, 'utf8'),
};
export const handler = async ({ probe, ...args }) => probes[probe](args);
`;

let node: HostUnderTest;
let spec: VersionSpec;
let containerId: string;
const docker = new Docker(
  process.env.DOCKER_HOST?.startsWith('unix://') ? { socketPath: process.env.DOCKER_HOST.slice('unix://'.length) } : {},
);

beforeAll(async () => {
  node = await HostUnderTest.open('docker');
  spec = await node.deploy(PROBE, { memoryMb: MEMORY_MB, cpus: 0.5 });
  const first = await node.call(spec, { event: { probe: 'hostname' } });
  const label = `lambda.sandbox=${first.receipt?.sandboxId}`;
  const [container] = await docker.listContainers({ filters: { label: [label] } });
  containerId = container?.Id ?? '';
});
afterAll(() => node?.close());

async function probe(name: string, args: object = {}): Promise<unknown> {
  const end = await node.call(spec, { event: { probe: name, ...args } });
  if (end.error !== undefined) throw new Error(`${end.error.errorType}: ${end.error.errorMessage}`);
  return JSON.parse(end.text);
}

describe('from inside, a sandbox', () => {
  test('has no network but its own loopback', async () => {
    expect(await probe('interfaces')).toEqual(['lo']);
    expect(await probe('routes')).toBe(0);
    expect(await probe('dial', { host: '169.254.169.254', port: 80 })).toBe('ENETUNREACH');
    expect(await probe('dial', { host: '172.17.0.1', port: 80 })).toBe('ENETUNREACH');
    expect(await probe('dial', { host: '127.0.0.1', port: 22 })).toBe('ECONNREFUSED');
  });

  test('has no capability, no way to gain one, and no root', async () => {
    const status = String(await probe('status'));
    for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb']) {
      expect(status).toMatch(new RegExp(`^${set}:\\s+0{16}$`, 'm'));
    }
    expect(status).toMatch(/^NoNewPrivs:\s+1$/m);
    expect(status).toMatch(/^Uid:\s+(5\d{4})\s+\1\s+\1\s+\1$/m);
    expect(status).toMatch(/^Gid:\s+65534\s+65534\s+65534\s+65534$/m);
    expect(status).toMatch(/^Groups:\s*(65534\s*)?$/m);
    expect(status).toMatch(/^Seccomp:\s+2$/m);
  });

  test.each(['/x', '/etc/passwd', '/var/runtime/x', '/var/task/x', '/run/lambda/x', '/var/task/index.mjs', '/dev/x'])(
    'cannot write to %s',
    async (path) => {
      expect(await probe('write', { path })).toMatch(/^(EROFS|EACCES|EPERM)$/);
    },
  );

  test('cannot change or remove its code, and its neighbours keep theirs', async () => {
    expect(await probe('chmod', { path: '/var/task/index.mjs' })).toMatch(/^(EROFS|EPERM)$/);
    expect(await probe('unlink', { path: '/var/task/index.mjs' })).toMatch(/^(EROFS|EACCES)$/);
  });

  test('can write and run programs in /tmp, up to its memory', async () => {
    expect(await probe('write', { path: '/tmp/file' })).toBe('done');
    expect(await probe('run')).toBe('ran');
  });

  test('finds no socket: its own channel is gone from the disk and the engine is not there', async () => {
    expect(await probe('dial', { path: '/run/lambda/agent.sock' })).toBe('ENOENT');
    expect(await probe('exists', { path: '/var/run/docker.sock' })).toBe(false);
  });

  test('cannot open more than 1024 descriptors', async () => {
    expect(await probe('descriptors')).toMatchObject({ code: 'EMFILE' });
  });

  test('stops a fork bomb at its pids limit', async () => {
    expect(await probe('forks')).toBeGreaterThan(0);
  });
});

test('a sandbox that somebody else removes gives its place back, and the next call gets a new one', async () => {
  const quitter = await node.deploy('export const handler = async () => 1;', { memoryMb: 128 });
  const { receipt } = await node.call(quitter, { event: {} });
  const free = node.host.runner.capacity().slotsFree;
  const filters = { label: [`lambda.sandbox=${receipt?.sandboxId}`] };
  for (const { Id } of await docker.listContainers({ filters })) await docker.getContainer(Id).remove({ force: true });
  const gone = () => node.host.runner.capacity().versions.every(({ versionId }) => versionId !== quitter.versionId);
  await expect.poll(gone, { timeout: 5_000 }).toBe(true);
  expect(node.host.runner.capacity().slotsFree).toBe(free);
  expect((await node.call(quitter, { event: {} })).text).toBe('1');
});

test('filling /tmp ends only that sandbox or that write, never the host’s disk', async () => {
  const filling = await node.call(await node.deploy(PROBE, { memoryMb: 128 }), { event: { probe: 'fill' } });
  expect(filling.error?.errorType ?? filling.text).toMatch(/ENOSPC|Runtime.OutOfMemory/);
  expect(await probe('hostname')).toBeTypeOf('string');
});

test('the engine’s inspection shows every limit', async () => {
  const { HostConfig: limits, Config: config, Mounts: mounts } = await docker.getContainer(containerId).inspect();
  expect(limits).toMatchObject({
    ReadonlyRootfs: true,
    CapDrop: ['ALL'],
    CapAdd: null,
    Privileged: false,
    SecurityOpt: ['no-new-privileges', expect.stringMatching(/^seccomp=\{/)],
    Memory: MEMORY_MB * MB,
    MemorySwap: MEMORY_MB * MB,
    CpuPeriod: 100_000,
    // While it started; see below for now.
    CpuQuota: 200_000,
    PidsLimit: 64,
    IpcMode: 'none',
    LogConfig: { Type: 'none' },
  });
  expect(config).toMatchObject({ User: expect.stringMatching(/^5\d{4}:65534$/), NetworkDisabled: true });
  expect(config.Labels).toMatchObject({ 'lambda.node': 'node-under-test', 'lambda.runtime': 'nodejs' });
  expect(mounts.map(({ Destination, RW }) => ({ Destination, RW }))).toEqual(
    expect.arrayContaining([
      { Destination: '/var/task', RW: false },
      { Destination: '/var/cache/lambda', RW: false },
      { Destination: '/run/lambda', RW: false },
    ]),
  );
  expect(mounts).toHaveLength(3);
});

test('in a VM, a sandbox has no mount but its code, and its input is empty', async () => {
  const inVm = await HostUnderTest.open('docker in a VM');
  try {
    const deployed = await inVm.deploy(PROBE, { memoryMb: 128 });
    const mounts = await inVm.call(deployed, { event: { probe: 'mounts' } });
    expect(mounts.text).toContain('/var/task');
    expect(mounts.text).not.toContain('/run/lambda');
    expect((await inVm.call(deployed, { event: { probe: 'input' } })).text).toBe('""');
    // The receipt of what cannot be measured.
    expect(mounts.receipt).toMatchObject({ cpuUs: 0, memoryPeakBytes: 0 });
  } finally {
    await inVm.close();
  }
});

test('the kernel’s own files hold the limits', async () => {
  const { State: state } = await docker.getContainer(containerId).inspect();
  const place = await locateCgroup(state.Pid, containerId);
  if (place === undefined) throw new Error('the cgroup of the container was not found on this machine');
  const read = async (folder: string, name: string) => (await readFile(join(folder, name), 'utf8')).trim();
  if (place.version === 2) {
    expect(await read(place.memory, 'memory.max')).toBe(String(MEMORY_MB * MB));
    expect(await read(place.memory, 'memory.swap.max')).toBe('0');
    expect(await read(place.cpu, 'cpu.max')).toBe('50000 100000');
    expect(await read(place.memory, 'pids.max')).toBe('64');
    expect(await read(dirname(place.cpu), 'cpu.weight')).toBe('12');
    return;
  }
  expect(await read(place.memory, 'memory.limit_in_bytes')).toBe(String(MEMORY_MB * MB));
  const swap = await read(place.memory, 'memory.memsw.limit_in_bytes').catch(() => 'not counted by this kernel');
  expect([String(MEMORY_MB * MB), 'not counted by this kernel']).toContain(swap);
  const beside = (controller: string) => place.memory.replace('/cgroup/memory/', `/cgroup/${controller}/`);
  expect(await read(beside('cpu'), 'cpu.cfs_quota_us')).toBe('50000');
  expect(await read(beside('cpu'), 'cpu.cfs_period_us')).toBe('100000');
  expect(await read(beside('pids'), 'pids.max')).toBe('64');
  expect(await read(dirname(beside('cpu')), 'cpu.shares')).toBe('128');
});

test('a sandbox that computes for long yields to the others, until it is idle again', async () => {
  const { State: state } = await docker.getContainer(containerId).inspect();
  const place = await locateCgroup(state.Pid, containerId);
  if (place === undefined) throw new Error('the cgroup of the container was not found on this machine');
  const file = join(place.cpuQuota, place.version === 1 ? 'cpu.shares' : 'cpu.weight');
  const weight = async () => Number(await readFile(file, 'utf8'));
  const before = await weight();
  const computing = probe('compute', { ms: 3_000 });
  await expect.poll(weight, { timeout: 10_000 }).toBeLessThan(before / 4);
  await computing;
  await expect.poll(weight, { timeout: 10_000 }).toBe(before);
});
