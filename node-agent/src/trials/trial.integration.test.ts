import { access, chmod, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { RuntimeName } from '@lambda-fleet/common/runtime-names';
import type { SelfTestCheck } from '@lambda-fleet/proto';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { EngineOfItsOwn } from '../../test-support/engine-of-its-own.js';
import { dockerOptions, log } from '../../test-support/host-under-test.js';
import { DockerDriver } from '../drivers/docker/docker-driver.js';
import type { Isolation } from '../drivers/sandbox-driver.js';
import { SandboxPlaces } from '../sandboxes/sandbox-directories.js';
import { runTrial } from './trial.js';
import { TriedDriver } from './tried-driver.js';

let root: string;
let places: SandboxPlaces;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'trial-'));
  places = new SandboxPlaces(join(root, 'sandboxes'), join(root, 'sockets'));
  await places.clear();
});
afterEach(() => rm(root, { recursive: true, force: true }));

const ownOptions = () => ({ nodeId: 'trial', owner: root.slice(-6).padStart(16, '0'), log });

async function expectNothingLeft(driver: DockerDriver): Promise<void> {
  expect(await driver.removeLeftovers()).toBe(0);
  for (const folder of ['sandboxes', 'sockets']) expect(await readdir(join(root, folder))).toEqual([]);
  const groups = await Promise.all(
    (await readdir('/sys/fs/cgroup')).map((controller) => readdir(join('/sys/fs/cgroup', controller)).catch(() => [])),
  );
  expect(groups.flat().filter((group) => group.includes(root.slice(-6)))).toEqual([]);
}

describe('a trial', () => {
  test.each<[Isolation, RuntimeName]>([
    ['runc', 'nodejs'],
    ['runc', 'python'],
    ['gvisor', 'nodejs'],
    ['gvisor', 'python'],
  ])('of %s with %s passes where everything is right, and leaves nothing behind', async (isolation, runtime) => {
    const driver = await DockerDriver.open({ ...ownOptions(), ...dockerOptions('docker') });
    const checks: SelfTestCheck[] = [];
    const onCheck = (check: SelfTestCheck): void => void checks.push(check);
    const result = await runTrial({ driver, places, isolation, network: 'none', runtime, onCheck });
    expect(result).toMatchObject({ probed: true });
    expect(checks.map(({ check, passed }) => [check, passed])).toEqual([
      ['start', true],
      ['no-network', true],
      ['freeze', true],
      ['memory-limit', true],
    ]);
    expect(checks.every((check) => check.isolation === isolation)).toBe(true);
    await expectNothingLeft(driver);
  });

  test('that is given up leaves nothing behind', async () => {
    const driver = await DockerDriver.open({ ...ownOptions(), ...dockerOptions('docker') });
    const tried = new TriedDriver({ driver, places, log });
    const trials = tried.tryAll();
    await expect.poll(() => readdir(join(root, 'sandboxes'))).toHaveLength(1);
    await tried.close();
    await trials;
    await expectNothingLeft(driver);
    expect(tried.isolation).toEqual(driver.isolation);
  });
});

/** gVisor that can be broken while the engine runs, behind the back of what looks at its arguments. */
describe('gVisor that', () => {
  let engine: EngineOfItsOwn;
  let folder: string;
  const breakWith = (script: string) =>
    writeFile(join(folder, 'runsc'), `#!/bin/sh\n${script}\nexec /usr/bin/runsc "$@"\n`);

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'runsc-'));
    const path = join(folder, 'runsc');
    await breakWith('');
    await chmod(path, 0o755);
    const runtimeArgs = ['--platform=ptrace', '--network=none', '--fsgofer-host-uds'];
    engine = await EngineOfItsOwn.start({ runsc: { path, runtimeArgs } });
    await engine.copyImages('lambda-fleet/runtime-python:current');
  });
  afterAll(async () => {
    await engine?.stop();
    await rm(folder, { recursive: true, force: true });
  });

  test.each([
    ['does not start', 'case "$*" in *create*) exit 1;; esac', 'start', /could not start a sandbox/],
    ['lets nobody use the channel', DROP_HOST_SOCKETS, 'start', /ended before it connected/],
    ['limits no memory', 'set -- --ignore-cgroups "$@"', 'memory-limit', /took 192 MB, and was to have 128/],
  ])('%s is withdrawn, with the reason, and runc stays', async (_what, script, failed, reason) => {
    await breakWith(script);
    const driver = await DockerDriver.open({ ...ownOptions(), dockerHost: engine.host });
    const tried = new TriedDriver({ driver, places, log });
    expect(tried.isolation).toEqual(['runc', 'gvisor']);
    const offers: (readonly Isolation[])[] = [];
    tried.onOfferChange(() => offers.push(tried.isolation));
    // It waits for the trial, and is not started.
    const spec = {
      ...({ id: 'early', runtime: 'python', isolation: 'gvisor', network: 'none', nonce: '' } as const),
      ...{ limits: { memoryMb: 128, cpus: 1 }, heapMemoryMb: 128 },
      ...(await places.make('early')),
    };
    const early = tried.start(spec);
    await expect(early).rejects.toThrow(reason);
    await tried.tryAll();
    expect(offers).toEqual([['runc']]);
    const failures = tried.selfTest.filter(({ passed }) => !passed);
    expect(failures).toMatchObject([{ isolation: 'gvisor', check: failed, detail: expect.stringMatching(reason) }]);
    expect(tried.selfTest).toContainEqual(expect.objectContaining({ isolation: 'runc', check: 'start', passed: true }));
    expect(tried.networks).toEqual(driver.networks);
    await places.remove('early');
    await expectNothingLeft(driver);
  });

  test('works again after a failure that did not last stays', async () => {
    // The first start of a sandbox fails, the second does not.
    await breakWith(`[ -e ${folder}/failed ] || case "$*" in *create*) touch ${folder}/failed; exit 1;; esac`);
    const driver = await DockerDriver.open({ ...ownOptions(), dockerHost: engine.host });
    const tried = new TriedDriver({ driver, places, log });
    await tried.tryAll();
    await access(join(folder, 'failed'));
    expect(tried.isolation).toEqual(['runc', 'gvisor']);
    await expectNothingLeft(driver);
  });

  test('its arguments say cannot work is not offered from the start', async () => {
    const runtimeArgs = ['--platform=ptrace', '--network=none'];
    const other = await EngineOfItsOwn.start({ runsc: { path: '/usr/bin/runsc', runtimeArgs } });
    try {
      const options = { ...ownOptions(), dockerHost: other.host };
      expect((await DockerDriver.open(options)).isolation).toEqual(['runc']);
      // Frames that travel over the engine need no socket.
      expect((await DockerDriver.open({ ...options, channelTransport: 'attach' })).isolation).toEqual([
        'runc',
        'gvisor',
      ]);
    } finally {
      await other.stop();
    }
  });
});

const DROP_HOST_SOCKETS = 'for a; do shift; [ "$a" = --fsgofer-host-uds ] || set -- "$@" "$a"; done';
