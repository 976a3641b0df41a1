import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Docker from 'dockerode';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { EngineOfItsOwn, type EngineRuntimes } from '../../test-support/engine-of-its-own.js';
import { dockerOptions, log } from '../../test-support/host-under-test.js';
import type { Check } from './check.js';
import { doctorsOwner, examine } from './examine.js';

let dataDir: string;
beforeEach(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'doctor-'));
});
afterEach(() => rm(dataDir, { recursive: true, force: true }));

async function examined(dockerHost: string | undefined, signal = new AbortController().signal) {
  const config = { dataDir, channelTransport: 'auto', dockerHost, runtimeDir: undefined } as const;
  const checks = new Map<string, Check>();
  for await (const check of examine({ config, log, signal })) checks.set(check.name, check);
  return checks;
}

const doctorContainers = (docker: Docker) =>
  docker.listContainers({ all: true, filters: { label: [`lambda.owner=${doctorsOwner(dataDir)}`] } });

test('where everything is right nothing fails, every kind is started, and nothing is left behind', async () => {
  const checks = await examined(dockerOptions('docker').dockerHost);
  expect([...checks.values()].filter(({ status }) => status === 'failed')).toEqual([]);
  for (const name of ['runc sandbox', 'gvisor sandbox']) {
    expect(checks.get(name)).toMatchObject({ status: 'ok', detail: expect.stringMatching(/connected after \d+ ms/) });
  }
  expect(await readdir(dataDir)).toEqual([]);
  expect(await doctorContainers(new Docker(socketOf(dockerOptions('docker').dockerHost)))).toEqual([]);
});

test('a doctor that is interrupted leaves nothing behind', async () => {
  const docker = new Docker(socketOf(dockerOptions('docker').dockerHost));
  const stop = new AbortController();
  const checks = examined(dockerOptions('docker').dockerHost, stop.signal);
  await expect.poll(async () => (await doctorContainers(docker)).length, { interval: 10, timeout: 10_000 }).toBe(1);
  stop.abort();
  expect([...(await checks).keys()]).not.toContain('gvisor sandbox');
  expect(await doctorContainers(docker)).toEqual([]);
});

test('without an engine it says where it looked, and what can be told without one', async () => {
  const checks = await examined('unix:///nowhere/docker.sock');
  expect(checks.get('engine')).toMatchObject({
    status: 'failed',
    detail: expect.stringContaining('/nowhere/docker.sock'),
  });
  expect(checks.get('cgroups')).toBeDefined();
  expect(checks.has('runsc')).toBe(false);
});

describe('with an engine', () => {
  const GOOD = ['--platform=ptrace', '--network=none', '--fsgofer-host-uds'];
  const runsc = (...runtimeArgs: string[]): EngineRuntimes => ({ runsc: { path: '/usr/bin/runsc', runtimeArgs } });

  test.each<[string, EngineRuntimes, string, RegExp, RegExp]>([
    ['without gVisor', {}, 'warning', /no runtime runsc/, /install gVisor/],
    ['whose gVisor keeps host sockets closed', runsc(...GOOD.slice(0, 2)), 'failed', /unix socket/, /--host-uds=open/],
    ['whose gVisor limits nothing', runsc(...GOOD, '--ignore-cgroups'), 'failed', /without limits/, /remove it/],
    [
      'whose gVisor is not there',
      { runsc: { path: '/nowhere/runsc', runtimeArgs: GOOD } },
      'failed',
      /\/nowhere\/runsc/,
      /install/,
    ],
    [
      'with a network in place of none',
      runsc(GOOD[0] ?? '', GOOD[2] ?? ''),
      'warning',
      /have no network/,
      /--network=none/,
    ],
  ])('%s, it says so and what to do', async (_what, runtimes, status, problem, advice) => {
    const engine = await EngineOfItsOwn.start(runtimes);
    try {
      const checks = await examined(engine.host);
      expect(checks.get('runsc')).toMatchObject({
        status,
        detail: expect.stringMatching(problem),
        advice: expect.stringMatching(advice),
      });
      expect(checks.get('images')).toMatchObject({ status: 'failed', advice: expect.stringContaining('build them') });
    } finally {
      await engine.stop();
    }
  });
});

function socketOf(host: string | undefined): Docker.DockerOptions {
  return host?.startsWith('unix://') ? { socketPath: host.slice('unix://'.length) } : {};
}
