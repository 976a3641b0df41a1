import { access, chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runtimeEntry } from '@lambda-fleet/runtime-node';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { DRIVERS, type DriverName, dockerOptions, log, pythonRuntime } from '../../test-support/host-under-test.js';
import { Conversation } from '../channel/conversation.js';
import { DockerDriver } from './docker/docker-driver.js';
import { ProcessDriver } from './process/process-driver.js';
import type { SandboxDriver, SandboxInstance } from './sandbox-driver.js';

const NONCE = 'a'.repeat(32);

function openDocker(name: DriverName, owner: string): Promise<SandboxDriver> {
  return DockerDriver.open({ nodeId: 'contract', owner, log, ...dockerOptions(name) });
}

let counter = 0;

describe.each(DRIVERS)('the %s driver', (name) => {
  let root: string;
  let owner: string;
  let driver: SandboxDriver;

  /** What this driver needs is named in the failure when it is missing. */
  async function open(driverName: DriverName): Promise<SandboxDriver> {
    if (driverName === 'process') {
      return ProcessDriver.open({ owner, workDir: root, nodeRuntime: runtimeEntry, pythonRuntime });
    }
    return openDocker(driverName, owner).catch((err: unknown) => {
      const where = process.env.DOCKER_HOST ?? '/var/run/docker.sock';
      throw new Error(`these tests need a Docker engine, and none answers at ${where}`, { cause: err });
    });
  }

  beforeAll(async () => {
    // In a folder that the unprivileged user of the process driver can reach.
    root = await mkdtemp('/var/tmp/driver-');
    owner = root.slice(-6).padStart(16, '0');
    await chmod(root, 0o755);
    driver = await open(name);
    const offered = (await driver.runtimes()).map((runtime) => runtime.name);
    expect(offered, 'the runtime images are missing; `npm run build` makes them').toContain('nodejs');
  });

  afterAll(async () => {
    await driver?.removeLeftovers();
    await driver?.close?.();
    await rm(root, { recursive: true, force: true });
  });

  /** Docker Desktop's own engine is in a VM without being treated so. */
  const inVm = (): boolean => driver.memoryBytesMax !== undefined;

  let stops: (() => Promise<void>)[];
  beforeEach(() => {
    stops = [];
  });
  afterEach(async () => {
    await Promise.all(stops.map((stop) => stop()));
  });

  async function boot(source: string, options: { memoryMb?: number; runtime?: 'nodejs' | 'python' } = {}) {
    counter += 1;
    const id = `contract${process.pid}-${counter}`;
    const taskDir = join(root, id, 'task');
    const cacheDir = join(root, id, 'cache');
    const channelDir = await mkdtemp(join(tmpdir(), 'channel-'));
    await mkdir(taskDir, { recursive: true });
    await mkdir(cacheDir);
    await chmod(channelDir, 0o711);
    const memoryMb = options.memoryMb ?? 128;
    const runtime = options.runtime ?? 'nodejs';
    const instance = await driver.start({
      ...specOf(driver, memoryMb),
      id,
      runtime,
      taskDir,
      cacheDir,
      channelDir,
    });
    stops.push(async () => {
      await instance.stop();
      await rm(channelDir, { recursive: true, force: true });
    });
    const stream = await instance.channel;
    const conversation = new Conversation({ stream, nonce: NONCE, helloDeadlineMs: 10_000, pingIntervalMs: 10_000 });
    conversation.listen({ wantsLog: () => false, log: () => false, closed: () => instance.channelClosed() });
    const hello = await conversation.hello;
    const file = runtime === 'nodejs' ? 'index.cjs' : 'main.py';
    await writeFile(join(taskDir, file), source);
    const init = await conversation.init({
      handler: runtime === 'nodejs' ? 'index.handler' : 'main.handler',
      functionName: 'f',
      functionVersion: '1',
      functionArn: 'arn',
      memoryMb,
      timeoutMs: 10_000,
      environment: {},
      logGroup: 'g',
      logStream: 's',
      concurrency: 1,
      realm: '',
    });
    const invoke = async (event: unknown = {}): Promise<string> => {
      const message = {
        id: 'i',
        deadlineMs: Date.now() + 10_000,
        arn: 'arn',
        traceId: '',
        clientContext: '',
        http: false,
      };
      const result = await conversation.invoke(message, Buffer.from(JSON.stringify(event)), () => {});
      if (result.kind === 'error') throw new Error(result.error.errorMessage);
      return result.body.toString();
    };
    return { instance, conversation, hello, init, invoke, taskDir };
  }

  test('starts a runtime that connects, greets and runs code put into the task directory afterwards', async () => {
    const { hello, init, invoke } = await boot('exports.handler = async (event) => ({ got: event });');
    expect(hello.runtime).toBe('nodejs');
    expect(init).toEqual({ ready: true });
    expect(await invoke({ a: 1 })).toBe('{"got":{"a":1}}');
  });

  test('runs Python as well', async () => {
    const { hello, invoke } = await boot('def handler(event):\n    return {"got": event}\n', { runtime: 'python' });
    expect(hello.runtime).toBe('python');
    expect(JSON.parse(await invoke({ a: 1 }))).toEqual({ got: { a: 1 } });
  });

  test('tells the exit status of a sandbox that ends by itself', async () => {
    const { instance, invoke } = await boot('exports.handler = async () => process.exit(3);');
    await expect(invoke()).rejects.toThrow();
    expect(await instance.exited).toMatchObject({ code: 3, signal: undefined, outOfMemory: false });
  });

  test('asks a sandbox to end, which may do so in its own way, and asks no harm of one that has ended', async () => {
    const { instance, invoke } = await boot(
      `exports.handler = async () => { process.once('SIGTERM', () => process.exit(5)); };`,
    );
    await invoke();
    instance.terminate();
    expect(await instance.exited).toMatchObject({ code: 5, signal: undefined, outOfMemory: false });
    instance.terminate();
    await instance.stop();
    instance.terminate();
  });

  test('a runtime whose agent hangs up ends by itself', async () => {
    const { instance, conversation } = await boot('exports.handler = async () => 1;');
    conversation.close();
    expect(await instance.exited).toMatchObject({ code: 0, signal: undefined, outOfMemory: false });
  });

  test('hands out what is written to file descriptors past the runtime', async () => {
    const { instance, invoke } = await boot(
      `exports.handler = async () => { require('fs').writeSync(1, 'to one\\n'); require('fs').writeSync(2, 'to two\\n'); };`,
    );
    const seen = { stdout: '', stderr: '' };
    instance.onOutput((stream, bytes) => {
      seen[stream] += bytes.toString();
      return 0;
    });
    await invoke();
    // Frames have the standard output of a container in a VM to themselves.
    const expected = inVm() ? { stdout: '', stderr: 'to one\nto two\n' } : { stdout: 'to one\n', stderr: 'to two\n' };
    await expect.poll(() => seen).toEqual(expected);
  });

  test('says that a sandbox ended for its memory, by buffers', async () => {
    const { instance, invoke } = await boot(
      'exports.handler = async () => { const all = []; for (;;) { all.push(Buffer.alloc(8e6, 1)); await new Promise(setImmediate); } };',
    );
    instance.resetPeak();
    await expect(invoke()).rejects.toThrow();
    expect(await instance.exited).toMatchObject({ outOfMemory: true });
  });

  test('says that a sandbox ended for its memory, by objects', async () => {
    const { instance, invoke } = await boot(
      'exports.handler = async () => { const all = []; for (;;) all.push({ a: [1, 2, 3] }); };',
    );
    instance.resetPeak();
    await expect(invoke()).rejects.toThrow();
    expect(await instance.exited).toMatchObject({ outOfMemory: true });
  });

  test('measures processor time and peak memory of a run, or says that it cannot', async () => {
    const { instance, invoke } = await boot(
      'exports.handler = async ({ ms }) => { const b = Buffer.alloc(20e6, 1); const end = Date.now() + ms; while (Date.now() < end); return b.length; };',
    );
    if (inVm()) {
      await invoke({ ms: 200 });
      expect(instance.usage()).toBeUndefined();
      return;
    }
    await expect.poll(() => instance.usage()).toBeDefined();
    instance.resetPeak();
    const before = instance.usage();
    await invoke({ ms: 200 });
    const after = instance.usage();
    expect((after?.cpuUs ?? 0) - (before?.cpuUs ?? 0)).toBeGreaterThan(50_000);
    expect(after?.memoryPeakBytes).toBeGreaterThan(20e6);
  });

  test('gives the sandbox nothing of the agent’s environment', async () => {
    process.env.AGENT_SECRET_FOR_TEST = 'secret';
    const { invoke } = await boot('exports.handler = async () => process.env;');
    const environment = await invoke();
    delete process.env.AGENT_SECRET_FOR_TEST;
    expect(environment).not.toContain('secret');
    expect(environment).not.toContain(NONCE);
  });

  test('runs the sandbox as an unprivileged user that cannot change its code', async () => {
    const { invoke, taskDir } = await boot(
      `exports.handler = async ({ dir }) => { try { require('fs').writeFileSync(dir + '/index.cjs', ''); return 'wrote'; } catch (e) { return process.getuid() + e.code; } };`,
    );
    // Any user but root: without root, the process driver has no other user than the agent's.
    expect(await invoke({ dir: driver.taskRootInside(taskDir) })).toMatch(/^"[1-9]\d*E(ROFS|ACCES)"$/);
  });

  test('stops a sandbox that ignores signals, with its children, and again without complaint', async () => {
    const { instance, invoke } = await boot(
      `exports.handler = async () => {
        process.on('SIGTERM', () => {});
        const { spawn } = require('child_process');
        spawn(process.execPath, ['-e', 'setInterval(() => {}, 1e9)'], { detached: true, stdio: 'ignore' });
        return 1;
      };`,
    );
    await invoke();
    await instance.stop();
    await instance.stop();
    expect(await instance.exited).toBeDefined();
    expect(await driver.removeLeftovers()).toBe(0);
  });

  test('removes what an earlier agent left, and nothing of another agent', async () => {
    const { instance } = await boot('exports.handler = async () => 1;');
    const stranger =
      name === 'process'
        ? await ProcessDriver.open({
            owner: 'stranger',
            workDir: root,
            nodeRuntime: runtimeEntry,
            pythonRuntime: undefined,
          })
        : await openDocker(name, 'stranger');
    expect(await stranger.removeLeftovers()).toBe(0);
    const again = await open(name);
    expect(await again.removeLeftovers()).toBe(1);
    expect(await instance.exited).toBeDefined();
    expect(await again.removeLeftovers()).toBe(0);
  });

  test('finds and removes a sandbox that an earlier agent left frozen', async () => {
    const { instance } = await boot('exports.handler = async () => 1;');
    instance.freeze();
    expect(await (await open(name)).removeLeftovers()).toBe(1);
    expect(await instance.exited).toBeDefined();
  });

  test('a frozen sandbox runs nothing, and goes on where it stood', async () => {
    const { instance, invoke } = await boot('exports.handler = async () => 1;');
    if (!driver.adjustable) {
      instance.freeze();
      expect(await invoke()).toBe('1');
      return;
    }
    let answered = false;
    instance.freeze();
    const answer = invoke().finally(() => {
      answered = true;
    });
    // Another sandbox, made from nothing meanwhile, takes far longer than an answer would.
    await boot('exports.handler = async () => 1;');
    expect(answered).toBe(false);
    instance.thaw();
    expect(await answer).toBe('1');
  });

  test('leaves nothing behind when a sandbox cannot be started', async () => {
    const spec = { ...specOf(driver, 128), runtime: 'nodejs' } as const;
    const missing = join(root, 'missing');
    await expect(access(missing)).rejects.toThrow();
    const channelDir = await mkdtemp(join(tmpdir(), 'channel-'));
    const started: Promise<SandboxInstance> = driver.start({
      ...spec,
      id: 'broken',
      taskDir: missing,
      cacheDir: missing,
      channelDir,
    });
    await expect(started).rejects.toThrow();
    expect(await driver.removeLeftovers()).toBe(0);
    await rm(channelDir, { recursive: true });
  });
});

function specOf(driver: SandboxDriver, memoryMb: number) {
  const [isolation = 'none'] = driver.isolation;
  return { isolation, network: 'none', limits: { memoryMb, cpus: 1 }, heapMemoryMb: memoryMb, nonce: NONCE } as const;
}
