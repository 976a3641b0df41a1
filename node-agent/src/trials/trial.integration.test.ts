import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, afterEach, describe, expect, test } from 'vitest';
import { canStartEngine, EngineOfItsOwn } from '../../test-support/engine-of-its-own.js';
import { dockerOptions, log } from '../../test-support/host-under-test.js';
import { DockerDriver } from '../drivers/docker/docker-driver.js';
import { SandboxPlaces } from '../sandboxes/sandbox-directories.js';
import { runTrial } from './trial.js';
import { TriedDriver } from './tried-driver.js';

let root: string;
let driver: DockerDriver;
let places: SandboxPlaces;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'trial-'));
  driver = await DockerDriver.open({ nodeId: 'trial', owner: root.slice(-6).padStart(16, '0'), log, ...dockerOptions('docker') });
  places = new SandboxPlaces(join(root, 'sandboxes'), join(root, 'sockets'));
  await places.clear();
});
afterAll(async () => {
  await driver?.removeLeftovers();
  await rm(root, { recursive: true, force: true });
});

describe.each(['runc','gvisor'] as const)('with %s', (isolation) => {
test.each(['nodejs', 'python'] as const)('a trial of %s', async (runtime) => {
  const t=performance.now();
  const result = await runTrial({ driver, places, isolation, network: 'none', runtime });
  console.log(isolation, runtime, result, performance.now()-t);
  expect(await driver.removeLeftovers()).toBe(0);
  expect(await readdir(join(root, 'sandboxes'))).toEqual([]);
});
});

describe('broken', () => {
 let engine: EngineOfItsOwn;
 test.each([
   ['no host sockets', ['--platform=ptrace', '--network=none']],
   ['no network none', ['--platform=ptrace', '--fsgofer-host-uds']],
   ['ignore-cgroups', ['--platform=ptrace', '--network=none', '--fsgofer-host-uds','--ignore-cgroups']],
   ['systrap', ['--platform=kvm', '--network=none', '--fsgofer-host-uds']],
 ])('%s', async (_what, runtimeArgs) => {
   engine = await EngineOfItsOwn.start({ runsc: { path: '/usr/bin/runsc', runtimeArgs } });
   let t=performance.now();
   await engine.copyImages('lambda-fleet/runtime-python:current');
   console.log('copy', performance.now()-t);
   const driver = await DockerDriver.open({ nodeId: 'trial', owner: 'a'.repeat(16), log, dockerHost: engine.host });
   t=performance.now();
   console.log(_what, await runTrial({ driver, places, isolation:'gvisor', network: 'none', runtime:'python' }).catch(e=>e.message), performance.now()-t);
   t=performance.now();
   await engine.stop();
   console.log('stop', performance.now()-t);
 });
});
