import { readFile, writeFile } from 'node:fs/promises';
import Docker from 'dockerode';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { AlterSpec } from '../src/drivers/docker/docker-driver.js';
import { HostUnderTest } from '../test-support/host-under-test.js';
import { Ground } from './ground.js';
import { HostWatcher } from './host-watcher.js';
import { Leftovers } from './leftovers.js';
import { ISOLATIONS, type Probe, type ProbeIsolation } from './probe.js';
import { PAGE, ProbeResults, textTable, withTable } from './probe-page.js';
import { PROBES } from './probe-table.js';

const docker = new Docker();
const results = new ProbeResults();
let host: HostWatcher;
let node: HostUnderTest;
let leftovers: Leftovers;
let grounds: Readonly<Record<ProbeIsolation, Ground>>;
/** Where an attempt is made at present that has to see or to change what the engine is asked for. */
let present: { readonly ground: Ground; readonly without?: Probe['withoutDefence'] } | undefined;

beforeAll(async () => {
  // What stands in the environment of an agent must not be found in a sandbox.
  process.env.LAMBDA_PROBES_SECRET = 'the secret of the agent that probes look for';
  host = await HostWatcher.start(docker, 'lambda-fleet/runtime-python:current');
  leftovers = await Leftovers.begin(host, docker);
  const alterSpec: AlterSpec = (spec) => {
    present?.ground.onStart?.(spec);
    return present?.without?.alter?.(spec, present.ground) ?? spec;
  };
  node = await HostUnderTest.open('docker', { slots: 96, memoryMb: 32_768 }, { alterSpec });
  const [runc, gvisor] = ISOLATIONS.map((isolation) => new Ground({ isolation, node, host, docker }));
  grounds = { runc, gvisor } as Record<ProbeIsolation, Ground>;
  for (const ground of Object.values(grounds)) await ground.warmUp();
  leftovers.warm();
});
afterAll(async () => {
  delete process.env.LAMBDA_PROBES_SECRET;
  await node?.close();
  await leftovers?.end();
  await host?.stop();
  process.stdout.write(`\n${textTable(PROBES, results)}\n`);
  if (process.env.LAMBDA_PROBES_PAGE === 'write') {
    await writeFile(PAGE, withTable(await readFile(PAGE, 'utf8'), PROBES, results));
  }
});

async function holds(probe: Probe, isolation: ProbeIsolation, ground: Ground): Promise<void> {
  const harms = await probe.run(ground);
  results.ran(probe, isolation, harms.length === 0);
  expect(harms).toEqual([]);
}

describe.each(ISOLATIONS)('under %s', (isolation) => {
  for (const probe of PROBES) {
    if (!probe.slow) {
      test(probe.name, async () => {
        const ground = grounds[isolation];
        present = { ground };
        await holds(probe, isolation, ground);
        await ground.tidy();
      });
    }
    const without = probe.withoutDefence;
    if (!without?.isolations.includes(isolation)) continue;
    test(`without its defence (${without.removed}) it is not so: ${probe.name}`, async () => {
      const ground = grounds[isolation].afresh({ unprotected: true });
      await ground.secretFile();
      present = { ground, without };
      const putBack = without.replace?.();
      try {
        const harms = await probe.run(ground);
        results.shownToFail(probe, isolation, harms.length > 0);
        expect(harms).not.toEqual([]);
      } finally {
        present = undefined;
        await putBack?.();
        ground.forget();
      }
    });
  }
});

describe.concurrent('beside each other', { timeout: 300_000 }, () => {
  for (const probe of PROBES.filter(({ slow }) => slow)) {
    for (const isolation of ISOLATIONS) {
      test(`under ${isolation}: ${probe.name}`, async () => {
        const ground = grounds[isolation].afresh({});
        await holds(probe, isolation, ground);
        ground.forget();
      });
    }
  }
});

describe('after all of that', () => {
  test('the agent answers as it did', async () => {
    for (const ground of Object.values(grounds)) expect((await ground.attempt('trying.tidy')).said).toBe(null);
  });

  test('no process, container, mount, control group, socket or folder is left', async () => {
    await node.close();
    // Connections to the engine stay open for a while.
    await expect.poll(() => leftovers.look(), { timeout: 15_000 }).toEqual([]);
  });

  test('the agent’s memory is within 20 MB of where it began', () => {
    expect(leftovers.memoryGrowthMb()).toBeLessThan(20);
  });
});
