import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLogger } from '@lambda-fleet/common/logger';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { listenForRuntime } from '../channel/channel-listener.js';
import { encodeHead, FrameType } from '../channel/frame.js';
import type { SandboxDriver, SandboxExit, SandboxSpec } from '../drivers/sandbox-driver.js';
import { SandboxPlaces } from './sandbox-directories.js';
import { SandboxPool } from './sandbox-pool.js';
import type { SandboxShape } from './sandbox-shape.js';

/**
 * Drivers that fail cannot be had from real ones on demand, so this one greets by itself and ends or refuses to end
 * as a test wants it.
 */
class UnreliableDriver implements SandboxDriver {
  readonly name = 'process';
  readonly isolation = ['none'] as const;
  readonly networks = ['none'] as const;
  readonly adjustable = true;
  readonly memoryBytesMax = undefined;
  stopFailure: Error | undefined;
  startFailure: Error | undefined;
  nonce: string | undefined;
  stops = 0;
  readonly sockets: Socket[] = [];

  async runtimes() {
    return [];
  }
  taskRootInside(path: string): string {
    return path;
  }
  async removeLeftovers(): Promise<number> {
    return 0;
  }
  async find() {
    return [];
  }
  async start(spec: SandboxSpec) {
    if (this.startFailure !== undefined) throw this.startFailure;
    let exit: (exit: SandboxExit) => void = () => {};
    const exited = new Promise<SandboxExit>((resolve) => {
      exit = resolve;
    });
    const path = join(spec.channelDir, 'agent.sock');
    const listener = await listenForRuntime({ path, uid: undefined });
    const socket = connect(path);
    socket.on('error', () => {});
    this.sockets.push(socket);
    const hello = { protocol: 1, nonce: this.nonce ?? spec.nonce, runtime: 'nodejs', version: '1', pid: 1 };
    socket.write(encodeHead(FrameType.HELLO, hello, 0));
    return {
      channel: listener.connected,
      exited,
      onOutput: () => {},
      usage: () => undefined,
      resetPeak: () => {},
      yieldProcessor: () => {},
      setLimits: () => {},
      setEgressHosts: async () => {},
      freeze: () => {},
      thaw: () => {},
      channelClosed: () => {},
      terminate: () => {},
      stop: async () => {
        this.stops += 1;
        listener.close();
        if (this.stopFailure !== undefined) throw this.stopFailure;
        exit({ code: undefined, signal: 'SIGKILL', outOfMemory: false });
      },
    };
  }
}

const shape: SandboxShape = {
  versionId: 'v',
  runtime: 'nodejs',
  isolation: 'none',
  network: 'none',
  egressHosts: [],
  memoryMb: 100,
  cpus: 1,
  timeoutMs: 1000,
  initTimeoutMs: 1000,
  keepAliveMs: 60_000,
  concurrency: 1,
  keepRunning: false,
};
const MB = 1024 * 1024;

let root: string;
let driver: UnreliableDriver;
let pool: SandboxPool;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'pool-'));
  driver = new UnreliableDriver();
  const places = new SandboxPlaces(join(root, 'tasks'), join(root, 'channels'));
  await places.clear();
  pool = new SandboxPool({
    driver,
    places,
    memoryBytes: 150 * MB,
    slots: 2,
    blanks: 0,
    rememberedKinds: [],
    rememberKinds: () => {},
    availableBytes: () => undefined,
    log: createLogger('test', 'silent'),
  });
});
afterEach(async () => {
  vi.useRealTimers();
  for (const socket of driver.sockets) socket.destroy();
  await rm(root, { recursive: true, force: true });
});

function claim() {
  const sandbox = pool.claim(shape);
  if (sandbox === undefined) throw new Error('there was no room');
  return sandbox;
}

test('a sandbox that cannot be killed keeps its memory until it is gone', async () => {
  const sandbox = claim();
  await pool.prepare(sandbox);
  driver.stopFailure = new Error('the engine is away');
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  sandbox.stop('cancelled');
  await sandbox.settled;
  expect(sandbox.state).toBe('quarantined');
  expect(pool.claim(shape)).toBeUndefined();
  expect(pool.capacity()).toMatchObject({ memoryBytesFree: 50 * MB, slotsFree: 1 });
  driver.stopFailure = undefined;
  await vi.advanceTimersByTimeAsync(10_000);
  vi.useRealTimers();
  await expect.poll(() => sandbox.state).toBe('gone');
  expect(pool.capacity()).toMatchObject({ memoryBytesFree: 150 * MB, slotsFree: 2 });
});

test('a sandbox that is being made is reported as busy and as starting', async () => {
  const sandbox = claim();
  const versions = [{ versionId: 'v', idle: 0, busy: 1, starting: 1 }];
  expect(pool.capacity().versions).toEqual(versions);
  await pool.prepare(sandbox);
  expect(pool.capacity().versions).toEqual(versions);
  sandbox.stop('cancelled');
  await sandbox.settled;
  expect(pool.capacity().versions).toEqual([]);
});

test('a sandbox that fails to start gives back its memory and its directories', async () => {
  driver.startFailure = new Error('no such image');
  const sandbox = claim();
  await expect(pool.prepare(sandbox)).rejects.toThrow('no such image');
  await sandbox.settled;
  expect(sandbox.state).toBe('gone');
  expect(pool.capacity()).toMatchObject({ memoryBytesFree: 150 * MB, slotsFree: 2, versions: [] });
  expect(await readdir(join(root, 'tasks'))).toEqual([]);
  expect(await readdir(join(root, 'channels'))).toEqual([]);
});

test('whoever greets with the wrong nonce gets no code', async () => {
  driver.nonce = 'f'.repeat(32);
  const sandbox = claim();
  await expect(pool.prepare(sandbox)).rejects.toThrow(/wrong nonce/);
  expect(await sandbox.ended).toMatchObject({ kind: 'violation' });
  await sandbox.settled;
  expect(driver.stops).toBe(1);
});

test('a sandbox that is stopped while it starts leaves nothing, whenever that is', async () => {
  for (let turns = 0; turns < 12; turns += 1) {
    const sandbox = claim();
    const booted = pool.prepare(sandbox).then(
      () => 'booted',
      () => 'failed',
    );
    for (let turn = 0; turn < turns; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    sandbox.stop('cancelled');
    await booted;
    await sandbox.settled;
    expect(sandbox.state).toBe('gone');
    expect(await sandbox.ended).toEqual({ kind: 'stopped', reason: 'cancelled' });
  }
  expect(await readdir(join(root, 'tasks'))).toEqual([]);
  expect(pool.capacity()).toMatchObject({ memoryBytesFree: 150 * MB, slotsFree: 2 });
});

test('a new sandbox waits until the one that was given up for it is gone', async () => {
  const first = claim();
  await pool.prepare(first);
  first.stop('evicted');
  const second = claim();
  const booting = pool.prepare(second);
  expect(second.state).toBe('creating');
  await first.settled;
  await booting;
  expect(second.state).toBe('blank');
  await pool.close();
  expect(pool.claim(shape)).toBeUndefined();
});
