import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { InvokeKind, StartPath, type VersionSpec } from '@lambda-fleet/proto';
import Docker from 'dockerode';
import { afterEach, describe, expect, test } from 'vitest';
import { DRIVERS, type DriverName, type Ended, HostUnderTest } from '../../test-support/host-under-test.js';
import { locateCgroup } from '../drivers/docker/cgroup.js';

const MB = 1024 * 1024;
const HELLO = 'export const handler = async (event) => ({ got: event });';

let node: HostUnderTest;
afterEach(() => node?.close());

const blanks = () => node.host.runner.capacity().blanks.reduce((sum, { count }) => sum + count, 0);
const starts = (ends: readonly Ended[]) => ends.map(({ receipt }) => receipt?.start);

/** A node on which `count` blanks of the kind that `spec` needs are up. */
async function withBlanks(
  driver: DriverName,
  count: number,
  spec: Partial<VersionSpec> = {},
  options: { isolation?: string; memoryMb?: number; slots?: number } = {},
): Promise<void> {
  node = await HostUnderTest.open(driver, {
    blanks: count,
    slots: options.slots ?? 24,
    memoryMb: options.memoryMb ?? 8_192,
  });
  await node.call(await node.deploy(HELLO, spec), { singleUse: true, isolation: options.isolation });
  await expect.poll(blanks, { timeout: 20_000 }).toBe(count);
}

/** Looks again and again at what the kernel lets all containers of the node use together; `stop` answers the most it saw. */
function watchMemoryLimits(): { stop(): Promise<number> } {
  const docker = new Docker();
  let stopped = false;
  const look = async (): Promise<number> => {
    const containers = await docker.listContainers({ filters: { label: ['lambda.node=node-under-test'] } });
    const limits = await Promise.all(
      containers.map(async ({ Id }) => {
        const pid = await docker
          .getContainer(Id)
          .inspect()
          .then(
            ({ State }) => State.Pid,
            () => 0,
          );
        const place = pid > 0 ? await locateCgroup(pid, Id) : undefined;
        if (place === undefined) return 0;
        const file = place.version === 1 ? 'memory.limit_in_bytes' : 'memory.max';
        return Number(await readFile(join(place.memory, file), 'utf8').catch(() => 0));
      }),
    );
    return limits.reduce((sum, limit) => sum + limit, 0);
  };
  const watching = (async () => {
    let most = 0;
    while (!stopped) most = Math.max(most, await look());
    return most;
  })();
  return {
    stop: async () => {
      stopped = true;
      const most = await watching;
      expect(most).toBeGreaterThan(0);
      return most;
    },
  };
}

describe.each(DRIVERS)('blanks of the %s driver', (driver) => {
  test('the second function of a kind starts from a blank, which is replaced', async () => {
    await withBlanks(driver, 1);
    const first = await node.call(await node.deploy(HELLO), { event: { n: 1 } });
    expect([first.text, first.receipt?.start]).toEqual(['{"got":{"n":1}}', StartPath.BLANK]);
    await expect.poll(blanks, { timeout: 20_000 }).toBe(1);
    const second = await node.call(await node.deploy(HELLO), { event: { n: 2 } });
    expect([second.text, second.receipt?.start]).toEqual(['{"got":{"n":2}}', StartPath.BLANK]);
    expect(second.receipt?.sandboxId).not.toBe(first.receipt?.sandboxId);
  });

  test('a function with another memory gets no blank whose heap does not fit it, until one is made for it', async () => {
    await withBlanks(driver, 2, { memoryMb: 128 });
    const large = { memoryMb: 256 };
    expect((await node.call(await node.deploy(HELLO, large), { singleUse: true })).receipt?.start).toBe(StartPath.COLD);
    const made = () => node.host.runner.capacity().blanks.some(({ memoryMb }) => memoryMb === 256);
    await expect.poll(made, { timeout: 20_000 }).toBe(true);
    expect((await node.call(await node.deploy(HELLO, large))).receipt?.start).toBe(StartPath.BLANK);
  });

  test('twenty functions at once with four blanks: all answer, within the node’s memory, and the blanks come back', async () => {
    await withBlanks(driver, 4, { memoryMb: 128 }, { memoryMb: 20 * 128 + 64, slots: 20 });
    const specs = await Promise.all(
      Array.from({ length: 20 }, () => node.deploy(HELLO, { memoryMb: 128, keepAliveMs: 100 })),
    );
    const watch = driver === 'docker' ? watchMemoryLimits() : undefined;
    const ends = await Promise.all(specs.map((spec, n) => node.call(spec, { event: { n } })));
    expect(ends.map(({ text }) => text)).toEqual(specs.map((_, n) => `{"got":{"n":${n}}}`));
    expect(starts(ends).filter((start) => start === StartPath.BLANK).length).toBeGreaterThanOrEqual(3);
    await expect.poll(blanks, { timeout: 30_000 }).toBe(4);
    if (watch !== undefined) expect(await watch.stop()).toBeLessThanOrEqual((20 * 128 + 64) * MB);
  });

  test('blanks are given up before sandboxes that somebody used, and only when room is needed', async () => {
    await withBlanks(driver, 2, { memoryMb: 128 }, { memoryMb: 560, slots: 4 });
    const used = await node.deploy(HELLO, { memoryMb: 128 });
    await node.call(used);
    await expect.poll(blanks, { timeout: 20_000 }).toBeGreaterThan(0);
    const hungry = await node.deploy(HELLO, { memoryMb: 400 });
    expect((await node.call(hungry)).text).toBe('{"got":{}}');
    expect(blanks()).toBe(0);
    expect((await node.call(used)).receipt?.start).toBe(StartPath.WARM);
  });

  test('a single-use invocation takes a blank, which nobody gets afterwards', async () => {
    await withBlanks(driver, 1);
    const spec = await node.deploy('let calls = 0; export const handler = async () => ++calls;');
    const first = await node.call(spec, { singleUse: true });
    const second = await node.call(spec, { singleUse: true });
    expect([first.text, second.text]).toEqual(['1', '1']);
    expect(first.receipt?.start).toBe(StartPath.BLANK);
    expect(first.receipt?.sandboxId).not.toBe(second.receipt?.sandboxId);
  });

  test('code that does not load costs its blank and nothing else', async () => {
    await withBlanks(driver, 1);
    const broken = await node.deploy('export const handler = {');
    expect((await node.call(broken)).error?.errorType).toBe('Runtime.UserCodeSyntaxError');
    await expect.poll(blanks, { timeout: 20_000 }).toBe(1);
    expect((await node.call(await node.deploy(HELLO))).receipt?.start).toBe(StartPath.BLANK);
  });

  test('an agent that starts again makes the blanks that were wanted before', async () => {
    await withBlanks(driver, 2, { memoryMb: 192 });
    await node.reopen();
    await expect.poll(blanks, { timeout: 20_000 }).toBe(2);
    expect((await node.call(await node.deploy(HELLO, { memoryMb: 192 }))).receipt?.start).toBe(StartPath.BLANK);
  });
});

describe.each(['runc', 'gvisor'])('a blank under %s', (isolation) => {
  const burn = `export const handler = async ({ mb }) => {
    const kept = [];
    for (let i = 0; i < mb; i += 1) kept.push(Buffer.alloc(1048576, 1));
    return kept.length;
  };`;

  test('has its function’s limits: processors and memory', async () => {
    await withBlanks('docker', 1, { memoryMb: 256 }, { isolation });
    const spec = await node.deploy(burn, { memoryMb: 256, cpus: 0.5 });
    const fine = await node.call(spec, { event: { mb: 150 }, isolation });
    expect([fine.text, fine.receipt?.start, fine.receipt?.isolation]).toEqual(['150', StartPath.BLANK, isolation]);
    expect(fine.receipt?.memoryPeakBytes).toBeGreaterThan(150 * MB);
    const over = await node.call(spec, { event: { mb: 300 }, isolation });
    expect(over.error?.errorType).toBe('Runtime.OutOfMemory');
    expect(over.error?.errorMessage).toMatch(/memory limit of 256 MB .*used 25\d\.\d MB at most/);
  });

  test('sees all of a large artifact that was moved into it, and cannot write to it', async () => {
    await withBlanks('docker', 1, { memoryMb: 256 }, { isolation });
    const modules = Object.fromEntries(
      Array.from({ length: 300 }, (_, n) => [`lib/m${n % 7}/f${n}.cjs`, `module.exports = ${n};`]),
    );
    const main = `
      const { readdirSync, writeFileSync } = require('node:fs');
      exports.handler = async () => {
        const files = readdirSync(__dirname + '/lib', { recursive: true }).filter((name) => name.endsWith('.cjs'));
        const sum = files.reduce((total, name) => total + require('./lib/' + name), 0);
        try {
          writeFileSync(__dirname + '/lib/m1/f1.cjs', 'module.exports = 1e9;');
          return 'written';
        } catch (err) {
          return { sum, code: err.code };
        }
      };`;
    const spec = await node.deploy({ ...modules, 'index.cjs': main }, { memoryMb: 256 });
    const spare = join(node.dataDir, 'artifacts', spec.artifactSha256, 'spare');
    for (let call = 0; call < 3; call += 1) {
      const { text } = await node.call(spec, { isolation, singleUse: true });
      expect(JSON.parse(text)).toEqual({ sum: (299 * 300) / 2, code: expect.stringMatching(/EROFS|EACCES/) });
      await expect.poll(() => readdir(spare).catch(() => []), { timeout: 5_000 }).toEqual(['index.cjs', 'lib']);
      await expect.poll(blanks, { timeout: 20_000 }).toBe(1);
    }
  });

  test('serves Python functions of every memory', async () => {
    const python = { runtime: 'python', handler: 'main.handler' };
    const code = { 'main.py': 'def handler(event):\n    return len(b"x" * (event["mb"] * 1048576))\n' };
    node = await HostUnderTest.open('docker', { blanks: 1 });
    await node.call(await node.deploy(code, { ...python, memoryMb: 64 }), {
      event: { mb: 1 },
      isolation,
      singleUse: true,
    });
    for (const memoryMb of [512, 96]) {
      await expect.poll(blanks, { timeout: 20_000 }).toBe(1);
      const spec = await node.deploy(code, { ...python, memoryMb });
      const fine = await node.call(spec, { event: { mb: memoryMb - 64 }, isolation });
      expect([fine.text, fine.receipt?.start]).toEqual([String((memoryMb - 64) * MB), StartPath.BLANK]);
      const over = await node.call(spec, { event: { mb: memoryMb + 1 }, isolation });
      expect(over.error?.errorType).toMatch(/Runtime.OutOfMemory|MemoryError/);
    }
  });
});

test('a version is checked in a blank too, and then warm', async () => {
  await withBlanks('docker', 1);
  const spec = await node.deploy(HELLO);
  expect((await node.call(spec, { kind: InvokeKind.CHECK })).receipt?.start).toBe(StartPath.BLANK);
  expect((await node.call(spec)).receipt?.start).toBe(StartPath.WARM);
});

test('an isolation that the node does not have is refused, and so is a network', async () => {
  node = await HostUnderTest.open('process');
  const spec = await node.deploy(HELLO);
  expect(await node.tryCall(spec, { isolation: 'gvisor' })).toMatchObject({
    detail: expect.stringContaining('gvisor'),
  });
  const docker = await HostUnderTest.open('docker');
  try {
    expect(await docker.tryCall({ ...(await docker.deploy(HELLO)), network: 'wormhole' })).toMatchObject({
      detail: expect.stringContaining('wormhole'),
    });
  } finally {
    await docker.close();
  }
});

test('when the machine’s memory runs low, blanks go first, then idle sandboxes, and come back when it is there again', async () => {
  let available = 8_192 * MB;
  node = await HostUnderTest.open('process', { blanks: 2, availableBytes: () => available });
  const spec = await node.deploy(HELLO, { memoryMb: 128 });
  await node.call(spec);
  await expect.poll(blanks, { timeout: 20_000 }).toBe(2);
  const sandboxes = () => node.host.runner.capacity().versions.length;
  available = 100 * MB;
  await expect.poll(blanks, { timeout: 10_000 }).toBeLessThan(2);
  expect(sandboxes()).toBe(1);
  await expect.poll(sandboxes, { timeout: 10_000 }).toBe(0);
  available = 8_192 * MB;
  await expect.poll(blanks, { timeout: 20_000 }).toBe(2);
});

test('what is remembered of blanks may be damaged', async () => {
  await withBlanks('process', 1);
  const file = join(node.dataDir, 'blank-kinds.json');
  await node.reopen(async () => {
    expect(await readFile(file, 'utf8')).toContain('nodejs');
    await writeFile(file, '{"broken":');
  });
  expect((await node.call(await node.deploy(HELLO))).text).toBe('{"got":{}}');
});
