import { access, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { FaultOwner, InvokeKind, LogStream, Outcome, RefusalReason, StartPath } from '@lambda-fleet/proto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { DRIVERS, HostUnderTest } from '../../test-support/host-under-test.js';

describe.each(DRIVERS)('on the %s driver', (driver) => {
  let node: HostUnderTest;
  beforeAll(async () => {
    node = await HostUnderTest.open(driver);
  });
  afterAll(() => node.close());

  test('the first call starts a sandbox and the next ones use it', async () => {
    const spec = await node.deploy(
      `let n = 0; export const handler = async (e) => ({ e, n: ++n, env: process.env.GREETING });`,
      {
        environment: { GREETING: 'hi' },
      },
    );
    const first = await node.call(spec, { event: 1 });
    expect(first).toMatchObject({ outcome: Outcome.SUCCESS, text: '{"e":1,"n":1,"env":"hi"}', bodyBytes: 24 });
    expect(first.receipt).toMatchObject({ start: StartPath.COLD, fault: FaultOwner.UNSPECIFIED });
    expect(first.receipt?.sandboxUs).toBeGreaterThan(0);
    expect(first.receipt?.initUs).toBeGreaterThan(0);
    const second = await node.call(spec, { event: 2 });
    expect(second.text).toBe('{"e":2,"n":2,"env":"hi"}');
    expect(second.receipt).toMatchObject({
      start: StartPath.WARM,
      sandboxUs: 0,
      initUs: 0,
      sandboxId: first.receipt?.sandboxId,
    });
    expect(second).toMatchObject({
      functionName: 'under-test',
      versionNumber: 1,
      memoryMb: 128,
      trigger: 'api',
      epoch: 1,
    });
  });

  test('Python functions run and are reused', async () => {
    const spec = await node.deploy(
      { 'main.py': 'def handler(event):\n    print("hello")\n    return {"m": "Hello, %s!" % event["name"]}\n' },
      {
        runtime: 'python',
        handler: 'main.handler',
      },
    );
    const first = await node.call(spec, { event: { name: 'World' } });
    expect(JSON.parse(first.text)).toEqual({ m: 'Hello, World!' });
    expect(first.logs.map(({ text }) => text)).toEqual(['hello']);
    expect((await node.call(spec, { event: { name: 'x' } })).receipt?.start).toBe(StartPath.WARM);
  });

  test('an HTTP response is mapped with status, headers and cookies', async () => {
    const spec = await node.deploy(
      `export const handler = async () => ({ statusCode: 201, headers: { 'X-A': 'b' }, cookies: ['c=d'], body: 'made' });`,
    );
    const end = await node.call(spec, { kind: InvokeKind.HTTP });
    expect(end).toMatchObject({ outcome: Outcome.SUCCESS, text: 'made' });
    expect(end.http).toMatchObject({ statusCode: 201, cookies: ['c=d'] });
    expect(end.http?.headers).toContainEqual({ name: 'x-a', value: 'b' });
  });

  test('a handler that throws is a function error and its sandbox stays warm', async () => {
    const spec = await node.deploy(`export const handler = async () => { throw new TypeError('no'); };`);
    const end = await node.call(spec);
    expect(end).toMatchObject({
      outcome: Outcome.FUNCTION_ERROR,
      error: { errorType: 'TypeError', errorMessage: 'no' },
    });
    expect(end.receipt?.fault).toBe(FaultOwner.FUNCTION);
    expect((await node.call(spec)).receipt?.start).toBe(StartPath.WARM);
  });

  test('an exit is an error with its status, and the next call works', async () => {
    const spec = await node.deploy(
      `export const handler = async (e) => { if (e.exit !== undefined) process.exit(e.exit); return 'ok'; };`,
    );
    const failed = await node.call(spec, { event: { exit: 7 }, id: 'the-id' });
    expect(failed).toMatchObject({
      outcome: Outcome.FUNCTION_ERROR,
      error: {
        errorType: 'Runtime.ExitError',
        errorMessage: 'RequestId: the-id Error: Runtime exited with error: exit status 7',
      },
    });
    const silent = await node.call(spec, { event: { exit: 0 } });
    expect(silent.error?.errorMessage).toMatch(/Runtime exited without providing a reason$/);
    expect(await node.call(spec)).toMatchObject({ outcome: Outcome.SUCCESS, text: '"ok"' });
  });

  test('a call right after an uncaught exception does not reach the runtime that ends because of it', async () => {
    const spec = await node.deploy(
      `export const handler = (e) => e.fail ? new Promise(() => setTimeout(() => { throw new Error('late'); })) : 'ok';`,
    );
    for (let i = 0; i < 3; i += 1) {
      expect((await node.call(spec, { event: { fail: true } })).error?.errorMessage).toBe('late');
      expect(await node.call(spec)).toMatchObject({ outcome: Outcome.SUCCESS, text: '"ok"' });
    }
  });

  test('a function past its time is killed and never reused', async () => {
    const spec = await node.deploy(`export const handler = async (e) => { if (e.loop) for (;;); return 'ok'; };`, {
      timeoutMs: 500,
    });
    const first = await node.call(spec);
    const late = await node.call(spec, { event: { loop: true }, id: 'late' });
    expect(late).toMatchObject({
      outcome: Outcome.TIMEOUT,
      error: {
        errorType: 'Sandbox.Timedout',
        errorMessage: 'RequestId: late Error: Task timed out after 0.50 seconds',
      },
    });
    const next = await node.call(spec);
    expect(next.receipt?.start).toBe(StartPath.COLD);
    expect(next.receipt?.sandboxId).not.toBe(first.receipt?.sandboxId);
  });

  test('a warm function may use its whole time again after each call', async () => {
    const spec = await node.deploy(
      `export const handler = async (e) => new Promise((r) => setTimeout(r, e.ms, 'ok'));`,
      { timeoutMs: 600 },
    );
    for (let i = 0; i < 4; i += 1)
      expect((await node.call(spec, { event: { ms: 250 } })).outcome).toBe(Outcome.SUCCESS);
    expect((await node.call(spec, { event: { ms: 5000 } })).outcome).toBe(Outcome.TIMEOUT);
  });

  test('code that never finishes loading times out', async () => {
    const spec = await node.deploy(
      `await new Promise((r) => setTimeout(r, 1e8)); export const handler = async () => 1;`,
      {
        initTimeoutMs: 300,
      },
    );
    expect(await node.call(spec)).toMatchObject({ outcome: Outcome.TIMEOUT, error: { errorType: 'Sandbox.Timedout' } });
  });

  test('more memory than allowed is named as such', async () => {
    const spec = await node.deploy(
      `export const handler = async () => { const a = []; for (;;) { a.push(Buffer.alloc(8e6, 1)); await new Promise(setImmediate); } };`,
    );
    const end = await node.call(spec);
    expect(end).toMatchObject({ outcome: Outcome.FUNCTION_ERROR, error: { errorType: 'Runtime.OutOfMemory' } });
    expect(end.error?.errorMessage).toMatch(/memory limit of 128 MB/);
  });

  test('code that does not parse is refused with file, line and column', async () => {
    const spec = await node.deploy('export const handler = async () => {\n  retrun 1;\n};\n');
    const end = await node.call(spec, { kind: InvokeKind.CHECK });
    expect(end).toMatchObject({
      outcome: Outcome.FUNCTION_ERROR,
      error: { errorType: 'Runtime.UserCodeSyntaxError', file: 'index.mjs', line: 2 },
    });
    expect(end.error?.column).toBeGreaterThan(0);
  });

  test('a missing handler is an error of any call', async () => {
    const spec = await node.deploy('export const other = 1;');
    expect((await node.call(spec)).error?.errorType).toBe('Runtime.HandlerNotFound');
    const missing = await node.deploy('export const other = 1;', { handler: 'nowhere.handler' });
    expect((await node.call(missing)).error?.errorType).toBe('Runtime.ImportModuleError');
  });

  test('a check loads the code without running it and leaves the sandbox warm', async () => {
    const spec = await node.deploy(`export const handler = async () => { console.log('ran'); return 1; };`);
    const check = await node.call(spec, { kind: InvokeKind.CHECK });
    expect(check).toMatchObject({ outcome: Outcome.SUCCESS, bodyBytes: 0, logs: [] });
    expect(check.receipt).toMatchObject({ start: StartPath.COLD, runUs: 0 });
    expect((await node.call(spec, { kind: InvokeKind.CHECK })).receipt?.start).toBe(StartPath.WARM);
    expect((await node.call(spec)).receipt?.start).toBe(StartPath.WARM);
  });

  test('a single-use sandbox is never taken from others nor left to them', async () => {
    const spec = await node.deploy(`export const handler = async () => 1;`);
    const kept = await node.call(spec);
    const once = await node.call(spec, { singleUse: true });
    expect(once.receipt).toMatchObject({ start: StartPath.COLD });
    expect((await node.call(spec)).receipt?.sandboxId).toBe(kept.receipt?.sandboxId);
  });

  test('log lines come numbered, tagged and before the end, init included', async () => {
    const spec = await node.deploy(
      `console.log('loading'); export const handler = async () => { console.error('one'); console.log('two'); };`,
    );
    const end = await node.call(spec, { id: 'logged' });
    expect(end.logs.map(({ sequence, text }) => `${sequence} ${text}`)).toEqual(['0 loading', '1 one', '2 two']);
    expect(end.logs[1]).toMatchObject({
      invocationId: 'logged',
      stream: LogStream.STDERR,
      level: 'ERROR',
      functionId: 'function',
    });
    expect((await node.call(spec)).logs.map(({ sequence }) => sequence)).toEqual([0, 1]);
  });

  test('a log flood is cut with a count and the result is whole', async () => {
    const spec = await node.deploy(
      `export const handler = async () => { for (let i = 0; i < 30000; i++) console.log('line', i); return 'whole'; };`,
    );
    const end = await node.call(spec);
    expect(end.text).toBe('"whole"');
    expect(end.logs).toHaveLength(10_001);
    expect(end.logs.at(-1)).toMatchObject({
      stream: LogStream.PLATFORM,
      text: expect.stringMatching(/^20000 more lines/),
    });
  });

  test('what is written past the runtime is logged under its invocation', async () => {
    const spec = await node.deploy(
      `import { writeSync } from 'node:fs'; export const handler = async () => { writeSync(1, 'raw\\n'); };`,
    );
    const end = await node.call(spec, { id: 'raw' });
    await expect.poll(() => end.logs).toMatchObject([{ invocationId: 'raw', text: 'raw', level: '' }]);
  });

  test('a runtime that forges frames loses its sandbox and nothing else', async () => {
    const spec = await node.deploy(
      `import { readdirSync, readlinkSync, writeSync } from 'node:fs';
       export const handler = async () => {
         for (const fd of readdirSync('/proc/self/fd')) {
           try { if (readlinkSync('/proc/self/fd/' + fd).startsWith('socket:') || fd === '3') writeSync(Number(fd), Buffer.alloc(64, 255)); } catch {}
         }
         await new Promise((r) => setTimeout(r, 5000));
       };`,
    );
    expect((await node.call(spec)).error?.errorType).toBe('Runtime.ProtocolViolation');
    const good = await node.deploy(`export const handler = async () => 1;`);
    expect((await node.call(good)).outcome).toBe(Outcome.SUCCESS);
  });

  test('a response over the limit is an error of the function', async () => {
    const spec = await node.deploy(`export const handler = async () => 'x'.repeat(6291556);`);
    expect((await node.call(spec)).error?.errorType).toBe('Function.ResponseSizeTooLarge');
    const fits = await node.deploy(`export const handler = async (e) => e;`);
    const event = 'x'.repeat(6 * 1024 * 1024 - 2);
    expect((await node.call(fits, { event })).bodyBytes).toBe(6 * 1024 * 1024);
  });

  test('code that cannot be fetched is not started, and is fetched again later', async () => {
    const spec = await node.deploy(`export const handler = async () => 'here';`);
    node.fetchFailure = new Error('the control plane is away');
    const failed = await node.call(spec);
    node.fetchFailure = undefined;
    expect(failed).toMatchObject({
      outcome: Outcome.NOT_STARTED,
      error: { errorMessage: 'the control plane is away' },
    });
    expect(failed.receipt?.fault).toBe(FaultOwner.PLATFORM);
    expect((await node.call(spec)).text).toBe('"here"');
  });

  test('a cancelled invocation ends as unknown and its sandbox is gone', async () => {
    const spec = await node.deploy(
      `export const handler = async (e) => { console.log('in'); await new Promise((r) => setTimeout(r, e.ms)); };`,
    );
    await node.call(spec, { event: { ms: 0 } });
    const running = node.call(spec, { event: { ms: 60_000 }, id: 'cancelled' });
    expect(node.host.runner.running()).toEqual([{ invocationId: 'cancelled', epoch: 1 }]);
    node.host.runner.cancel({ invocationId: 'cancelled', epoch: 2 });
    expect(node.host.runner.running()).toHaveLength(1);
    node.host.runner.cancel({ invocationId: 'cancelled', epoch: 1 });
    expect((await running).outcome).toBe(Outcome.UNKNOWN);
    expect(node.host.runner.running()).toEqual([]);
  });

  test('a runtime that this node does not have is refused', async () => {
    const spec = await node.deploy('', { runtime: 'perl' });
    expect(await node.tryCall(spec)).toMatchObject({ refused: RefusalReason.UNSUPPORTED_RUNTIME });
  });
});

test.each(['docker', 'docker in a VM'] as const)(
  'on the %s driver, an exit after a run in which a child was killed for its memory is named as the exit',
  async (driver) => {
    const node = await HostUnderTest.open(driver);
    try {
      const spec = await node.deploy(
        `import { spawnSync } from 'node:child_process';
         const GREEDY = 'const all = []; for (;;) all.push(Buffer.alloc(8e6, 1));';
         export const handler = (e) => e.exit ? process.exit(1) : spawnSync(process.execPath, ['-e', GREEDY]).signal;`,
        { memoryMb: 192 },
      );
      expect((await node.call(spec)).text).toBe('"SIGKILL"');
      expect((await node.call(spec, { event: { exit: true } })).error?.errorType).toBe('Runtime.ExitError');
    } finally {
      await node.close();
    }
  },
);

describe('a small node', () => {
  const SLEEP = `export const handler = async (e) => { await new Promise((r) => setTimeout(r, e.ms ?? 0)); return 'ok'; };`;
  let node: HostUnderTest;
  beforeAll(async () => {
    node = await HostUnderTest.open('docker', { memoryMb: 300, slots: 3 });
  });
  afterAll(() => node.close());

  test('refuses what does not fit, at once, and gives up idle sandboxes before that', async () => {
    const [a, b, c] = await Promise.all([node.deploy(SLEEP), node.deploy(SLEEP), node.deploy(SLEEP)]);
    await node.call(a);
    await node.call(b);
    expect(node.host.runner.capacity()).toMatchObject({ memoryBytesFree: 300 * 1024 * 1024, slotsFree: 3 });
    const third = await node.call(c);
    expect(third.outcome).toBe(Outcome.SUCCESS);
    // a was used least recently.
    const left = node.host.runner.capacity().versions.map(({ versionId }) => versionId);
    expect(left.sort()).toEqual([b.versionId, c.versionId].sort());

    const busy = [node.call(b, { event: { ms: 700 } }), node.call(c, { event: { ms: 700 } })];
    expect(await node.tryCall(a)).toMatchObject({ refused: RefusalReason.NO_CAPACITY });
    expect(node.host.runner.capacity().memoryBytesFree).toBe(44 * 1024 * 1024);
    expect((await Promise.all(busy)).map(({ outcome }) => outcome)).toEqual([Outcome.SUCCESS, Outcome.SUCCESS]);
    const tooBig = await node.deploy(SLEEP, { memoryMb: 512 });
    expect(await node.tryCall(tooBig)).toMatchObject({ refused: RefusalReason.NO_CAPACITY });
    // Nothing was given up for what could not be had.
    expect(node.host.runner.capacity().versions).toHaveLength(2);
  });

  test('stops idle sandboxes of forgotten versions now and busy ones after their work', async () => {
    const [idle, busy] = await Promise.all([node.deploy(SLEEP), node.deploy(SLEEP)]);
    await node.call(idle);
    await node.call(busy);
    const running = node.call(busy, { event: { ms: 300 } });
    node.host.runner.forget([idle.versionId, busy.versionId]);
    const versions = () => node.host.runner.capacity().versions.map(({ versionId }) => versionId);
    expect(versions()).toEqual([busy.versionId]);
    expect((await running).outcome).toBe(Outcome.SUCCESS);
    expect(versions()).toEqual([]);
  });

  test('stops a sandbox when its keep-alive is over, counted from its last use', async () => {
    const spec = await node.deploy(SLEEP, { keepAliveMs: 400 });
    const first = await node.call(spec);
    const second = await node.call(spec, { event: { ms: 500 } });
    expect(second.receipt?.sandboxId).toBe(first.receipt?.sandboxId);
    await expect.poll(() => node.host.runner.capacity().versions, { timeout: 10_000 }).toEqual([]);
  });
});

test('closing ends what runs, tells its end, refuses new work and leaves no directory', async () => {
  const node = await HostUnderTest.open('docker');
  const spec = await node.deploy(`export const handler = async () => new Promise((r) => setTimeout(r, 60000));`);
  const running = node.call(spec);
  await expect.poll(() => node.host.runner.capacity().versions).toMatchObject([{ busy: 1 }]);
  const sandboxes = join(node.directory, 'data', 'sandboxes');
  const closing = node.host.close();
  expect(await node.tryCall(spec)).toMatchObject({ refused: RefusalReason.STOPPING });
  await closing;
  expect([Outcome.UNKNOWN, Outcome.NOT_STARTED]).toContain((await running).outcome);
  expect(await readdir(sandboxes)).toEqual([]);
  await access(join(node.directory, 'data', 'artifacts'));
  expect(await node.host.driver.removeLeftovers()).toBe(0);
  await rm(node.directory, { recursive: true });
});
