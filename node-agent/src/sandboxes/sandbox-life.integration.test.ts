import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Outcome, StartPath, type VersionSpec } from '@lambda-fleet/proto';
import Docker from 'dockerode';
import { afterEach, describe, expect, test } from 'vitest';
import { type DriverName, type Ended, HostUnderTest } from '../../test-support/host-under-test.js';
import { locateCgroup } from '../drivers/docker/cgroup.js';

/** Which isolation, and which driver gives it. */
const ISOLATIONS: readonly (readonly [isolation: string, driver: DriverName])[] = [
  ['runc', 'docker'],
  ['gvisor', 'docker'],
  ['none', 'process'],
];
const COUNTER = `
  let ticks = 0;
  setInterval(() => { ticks += 1; }, 5);
  export const handler = async () => ticks;`;
const SLEEPER = `
  export const handler = async ({ ms, exit }) => {
    if (exit) process.exit(3);
    await new Promise((resolve) => setTimeout(resolve, ms ?? 0));
    return 'slept';
  };`;

let node: HostUnderTest;
afterEach(() => node?.close());

const docker = new Docker();

async function isFrozen(sandboxId: string | undefined, driver: DriverName): Promise<boolean> {
  if (driver === 'process') {
    const pid = await processOf(sandboxId ?? '');
    return /^State:\s+T/m.test(await readFile(`/proc/${pid}/status`, 'utf8'));
  }
  const [container] = await docker.listContainers({ filters: { label: [`lambda.sandbox=${sandboxId}`] } });
  const { Pid } = (await docker.getContainer(container?.Id ?? '').inspect()).State;
  const place = await locateCgroup(Pid, container?.Id ?? '');
  if (place === undefined) throw new Error('the sandbox has no cgroup');
  const file = place.version === 1 ? 'freezer.state' : 'cgroup.freeze';
  return /FROZEN|1/.test(await readFile(join(place.freezer, file), 'utf8'));
}

async function processOf(sandboxId: string): Promise<number> {
  const { findMarkedProcesses } = await import('../host/process-table.js');
  const [found] = await findMarkedProcesses(`LAMBDA_SANDBOX=${sandboxId}`);
  if (found === undefined) throw new Error('the sandbox has no process');
  return found.pid;
}

const ids = (ends: readonly Ended[]) => new Set(ends.map(({ receipt }) => receipt?.sandboxId));
const idleOf = ({ versionId }: VersionSpec) =>
  node.host.runner.capacity().versions.find((version) => version.versionId === versionId)?.idle ?? 0;

describe.each(ISOLATIONS)('a sandbox under %s', (isolation, driver) => {
  const call = (spec: VersionSpec, event: object = {}, id?: string) =>
    node.call(spec, { event, isolation, ...(id === undefined ? {} : { id }) });

  test('is frozen while it is idle and goes on when it is called; one that asks for it is not', async () => {
    node = await HostUnderTest.open(driver);
    const awake = await node.deploy(COUNTER, { keepRunning: true });
    const frozen = await node.deploy(COUNTER);
    const awakeId = (await call(awake)).receipt?.sandboxId;
    const first = await call(frozen);
    const frozenId = first.receipt?.sandboxId;
    await expect.poll(() => isFrozen(frozenId, driver), { timeout: 5_000 }).toBe(true);
    // It became idle earlier, so it would be frozen by now.
    expect(await isFrozen(awakeId, driver)).toBe(false);
    const ticks = Number((await call(awake)).text);
    await expect.poll(async () => Number((await call(awake)).text), { timeout: 20_000 }).toBeGreaterThan(ticks + 300);
    const again = await call(frozen);
    expect(again.receipt).toMatchObject({ start: StartPath.WARM, sandboxId: frozenId });
    // What it counted until it was frozen; the other counted to 300 and more meanwhile.
    expect(Number(again.text) - Number(first.text)).toBeLessThan(200);
  });

  test('that is frozen is gone when its function is', async () => {
    node = await HostUnderTest.open(driver);
    const spec = await node.deploy(COUNTER);
    const { receipt } = await call(spec);
    await expect.poll(() => isFrozen(receipt?.sandboxId, driver), { timeout: 5_000 }).toBe(true);
    node.host.runner.forget([spec.versionId]);
    const { memoryBytesTotal } = node.host.runner.capacity();
    await expect.poll(() => node.host.runner.capacity().memoryBytesFree, { timeout: 5_000 }).toBe(memoryBytesTotal);
    expect((await call(spec)).receipt?.start).toBe(StartPath.COLD);
  });

  test('takes as many invocations at a time as its version allows, and says that its receipt is shared', async () => {
    node = await HostUnderTest.open(driver);
    const spec = await node.deploy(SLEEPER, { concurrency: 3 });
    await call(spec);
    const three = await Promise.all([1, 2, 3].map(() => call(spec, { ms: 300 })));
    expect(ids(three).size).toBe(1);
    expect(three.map(({ receipt }) => receipt?.shared)).toEqual([true, true, true]);
    const four = await Promise.all([1, 2, 3, 4].map(() => call(spec, { ms: 300 })));
    expect(ids(four).size).toBe(2);
    expect((await call(spec)).receipt?.shared).toBe(false);
  });

  test('with several invocations lets the others finish when one is over its time, and is not used again', async () => {
    node = await HostUnderTest.open(driver);
    const spec = await node.deploy(SLEEPER, { concurrency: 3, timeoutMs: 1_500 });
    const warm = await call(spec);
    const late = call(spec, { ms: 60_000 });
    await expect.poll(() => node.host.runner.running().length).toBe(1);
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    const fine = call(spec, { ms: 1_200 });
    expect(await late).toMatchObject({ outcome: Outcome.TIMEOUT, error: { errorType: 'Sandbox.Timedout' } });
    expect(await fine).toMatchObject({ outcome: Outcome.SUCCESS, text: '"slept"' });
    expect(ids([await late, await fine, warm]).size).toBe(1);
    expect(ids([await call(spec), warm]).size).toBe(2);
  });

  test('with several invocations lets the others finish when one is cancelled', async () => {
    node = await HostUnderTest.open(driver);
    const spec = await node.deploy(SLEEPER, { concurrency: 2 });
    await call(spec);
    const cancelled = call(spec, { ms: 60_000 }, 'cancel-me');
    const fine = call(spec, { ms: 600 });
    await expect.poll(() => node.host.runner.running().length).toBe(2);
    node.host.runner.cancel({ invocationId: 'cancel-me', epoch: 1 });
    expect(await cancelled).toMatchObject({ outcome: Outcome.UNKNOWN, error: { errorType: 'Sandbox.Stopped' } });
    expect(await fine).toMatchObject({ outcome: Outcome.SUCCESS });
  });

  test('ends all its invocations with the right error when the process ends', async () => {
    node = await HostUnderTest.open(driver);
    const spec = await node.deploy(SLEEPER, { concurrency: 3 });
    await call(spec);
    const ends = await Promise.all([
      call(spec, { ms: 60_000 }),
      call(spec, { ms: 60_000 }),
      call(spec, { exit: true }),
    ]);
    for (const { error } of ends) {
      expect(error).toMatchObject({
        errorType: 'Runtime.ExitError',
        errorMessage: expect.stringContaining('status 3'),
      });
    }
  });

  test('belongs to a floor: made before it is needed, kept, and replaced when it ends', async () => {
    node = await HostUnderTest.open(driver, { memoryMb: 700, slots: 4 });
    const spec = await node.deploy(SLEEPER, { memoryMb: 128, keepAliveMs: 50 });
    const floor = (sandboxes: number) => node.host.runner.warm([{ spec, isolation, sandboxes }]);
    floor(2);
    await expect.poll(() => idleOf(spec), { timeout: 20_000 }).toBe(2);
    const first = await call(spec);
    expect(first.receipt?.start).toBe(StartPath.WARM);
    // 500 MB would fit if they were given up.
    const hungry = await node.deploy(SLEEPER, { memoryMb: 500 });
    expect(await node.tryCall(hungry, { isolation })).toMatchObject({ detail: expect.stringContaining('500 MB') });
    await call(spec, { exit: true });
    await expect.poll(() => idleOf(spec), { timeout: 20_000 }).toBe(2);
    floor(0);
    await call(spec);
    await expect.poll(() => idleOf(spec), { timeout: 20_000 }).toBe(0);
    expect((await node.call(hungry, { isolation })).text).toBe('"slept"');
  });
});

test('a floor whose code does not load is tried again, and does not stop others', async () => {
  node = await HostUnderTest.open('process');
  const broken = await node.deploy('throw new Error("not today");');
  const fine = await node.deploy(SLEEPER);
  node.host.runner.warm([
    { spec: broken, isolation: 'none', sandboxes: 1 },
    { spec: fine, isolation: 'none', sandboxes: 1 },
  ]);
  await expect.poll(() => idleOf(fine), { timeout: 20_000 }).toBe(1);
  const before = node.fetches;
  node.host.runner.forget([broken.versionId]);
  expect(node.fetches).toBe(before);
});
