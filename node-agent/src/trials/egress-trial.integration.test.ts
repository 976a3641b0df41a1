import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { EngineOfItsOwn } from '../../test-support/engine-of-its-own.js';
import { log } from '../../test-support/host-under-test.js';
import { World } from '../../test-support/world.js';
import { DockerDriver } from '../drivers/docker/docker-driver.js';
import type { SandboxSpec } from '../drivers/sandbox-driver.js';
import { SandboxPlaces } from '../sandboxes/sandbox-directories.js';
import { TriedDriver } from './tried-driver.js';

let engine: EngineOfItsOwn;
let world: World;
let root: string;
let places: SandboxPlaces;
let driver: DockerDriver;
beforeAll(async () => {
  engine = await EngineOfItsOwn.start();
  await engine.copyImages('lambda-fleet/runtime-python:current');
  world = await World.around(await engine.pid());
  root = await mkdtemp('/var/tmp/egress-trial-');
  places = new SandboxPlaces(join(root, 'sandboxes'), join(root, 'sockets'));
  await places.clear();
  // It looks at its firewall only when a sandbox is started.
  const egress = { verifyIntervalMs: 1e9 };
  driver = await DockerDriver.open({ nodeId: 'trial', owner: 'd'.repeat(16), dockerHost: engine.host, egress, log });
});
afterAll(async () => {
  await driver?.close();
  await world?.end();
  await engine?.stop();
  await rm(root, { recursive: true, force: true });
});

test('egress that is as it has to be is tried with every isolation, and goes on being offered', async () => {
  const tried = new TriedDriver({ driver, places, log });
  const offers: unknown[] = [];
  tried.onOfferChange(() => offers.push(tried.networks));
  await tried.tryAll();
  expect(offers).toEqual([]);
  expect(tried.networks).toEqual(['none', 'egress']);
  expect(await driver.removeLeftovers()).toBe(0);
  expect(await readdir(join(root, 'sandboxes'))).toEqual([]);
});

test('egress that lets a sandbox reach what it may not is withdrawn, and sandboxes without a network stay', async () => {
  const start = async (spec: SandboxSpec) => {
    const instance = await driver.start(spec);
    if (spec.network === 'egress') await world.host.run('nft', ['flush', 'ruleset']);
    return instance;
  };
  const leaky = new Proxy(driver, {
    get: (target, name) => {
      if (name === 'start') return start;
      const value = Reflect.get(target, name, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
  const tried = new TriedDriver({ driver: leaky, places, log });
  await tried.tryAll();
  expect(tried.networks).toEqual(['none']);
  expect(tried.isolation).toEqual(['runc', 'gvisor']);
  const spec = {
    ...({ id: 'late', runtime: 'python', isolation: 'runc', network: 'egress', nonce: '' } as const),
    ...{ limits: { memoryMb: 128, cpus: 1 }, heapMemoryMb: 128, taskDir: '', cacheDir: '', channelDir: '' },
  };
  await expect(tried.start(spec)).rejects.toThrow(/runc with a network do not work.*reached 169\.254\.169\.254/);
});
