import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { runtimeEntry } from '@lambda-fleet/runtime-node';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { dockerOptions, log } from '../../test-support/host-under-test.js';
import { DockerDriver } from '../drivers/docker/docker-driver.js';
import { ProcessDriver } from '../drivers/process/process-driver.js';
import type { SandboxDriver } from '../drivers/sandbox-driver.js';
import { LeakWatch } from './leak-watch.js';
import { SandboxPlaces } from './sandbox-directories.js';

/** Longer than a test: these look only when they are told to. */
const NEVER_MS = 1e9;

describe.each(['docker', 'process'] as const)('with the %s driver', (name) => {
  let root: string;
  let driver: SandboxDriver;
  let places: SandboxPlaces;
  let counts: number[];
  let known: Set<string>;
  let watch: LeakWatch;

  beforeEach(async () => {
    root = await mkdtemp('/var/tmp/leaks-');
    await chmod(root, 0o755);
    const owner = root.slice(-6).padStart(16, '0');
    driver =
      name === 'process'
        ? await ProcessDriver.open({ owner, workDir: root, nodeRuntime: runtimeEntry, pythonRuntime: undefined })
        : await DockerDriver.open({ nodeId: 'leaks', owner, log, ...dockerOptions('docker') });
    places = new SandboxPlaces(join(root, 'sandboxes'), join(root, 'sockets'));
    await places.clear();
    counts = [];
    known = new Set();
    const onStrangers = (count: number) => counts.push(count);
    watch = new LeakWatch({ driver, knows: (id) => known.has(id), onStrangers, log, intervalMs: NEVER_MS });
  });
  afterEach(async () => {
    await watch?.close();
    await driver?.removeLeftovers();
    await rm(root, { recursive: true, force: true });
  });

  async function start(id: string): Promise<void> {
    const [isolation = 'none'] = driver.isolation;
    await driver.start({
      ...{ id, runtime: 'nodejs', isolation, network: 'none', nonce: 'a'.repeat(32) },
      ...{ limits: { memoryMb: 128, cpus: 1 }, heapMemoryMb: 128 },
      ...(await places.make(id)),
    });
  }

  const found = async () => (await driver.find()).map(({ id }) => id).sort();

  test('a sandbox that nobody knows is counted at the first look and removed at the second', async () => {
    known.add('known');
    await Promise.all([start('known'), start('lost')]);
    await watch.look();
    expect(await found()).toEqual(['known', 'lost']);
    await watch.look();
    expect(await found()).toEqual(['known']);
    await watch.look();
    expect(counts).toEqual([1, 0, 0]);
  });

  test('one that somebody knows by the second look is left alone', async () => {
    await start('late');
    await watch.look();
    known.add('late');
    await watch.look();
    await watch.look();
    expect(await found()).toEqual(['late']);
    expect(counts).toEqual([1, 0, 0]);
  });

  test('one that is gone by the second look is forgotten', async () => {
    await start('short');
    await watch.look();
    await driver.removeLeftovers();
    await watch.look();
    expect(counts).toEqual([1, 0]);
  });

  test('one that cannot be removed goes on being counted', async () => {
    await start('stuck');
    const find = async () =>
      (await driver.find()).map(({ id }) => ({ id, remove: () => Promise.reject(new Error('stuck')) }));
    const onStrangers = (count: number) => counts.push(count);
    const stubborn = new LeakWatch({ driver: { find }, knows: () => false, onStrangers, log, intervalMs: NEVER_MS });
    for (let looks = 0; looks < 3; looks += 1) await stubborn.look();
    await stubborn.close();
    expect(counts).toEqual([1, 1, 1]);
  });
});
