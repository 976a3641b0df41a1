import { readFileSync } from 'node:fs';
import { FaultOwner, InvokeKind, Outcome, StartPath, type VersionSpec } from '@lambda-fleet/proto';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { bootstrapInC, bootstrapInGo, bootstrapSource } from '../../test-support/compiled-bootstraps.js';
import { type CallOptions, type DriverName, type Ended, HostUnderTest } from '../../test-support/host-under-test.js';

const TARGETS: readonly { readonly driver: DriverName; readonly isolation: string }[] = [
  { driver: 'docker', isolation: 'runc' },
  { driver: 'docker', isolation: 'gvisor' },
  { driver: 'docker in a VM', isolation: 'runc' },
  { driver: 'process', isolation: 'none' },
];

const PYTHON = readFileSync(bootstrapSource('bootstrap.py'), 'utf8');

let inC: Buffer;
let inGo: Buffer | undefined;

beforeAll(() => {
  inC = bootstrapInC();
  inGo = bootstrapInGo();
});

describe.each(TARGETS)('on the $driver driver, isolated by $isolation', ({ driver, isolation }) => {
  let node: HostUnderTest;
  beforeAll(async () => {
    node = await HostUnderTest.open(driver);
    const offered = node.host.runtimes.map(({ name }) => name);
    expect(offered, 'the static init is missing; `npm run build` makes it').toContain('provided');
  });
  afterAll(() => node?.close());

  const deploy = (bootstrap: string | Buffer, spec: Partial<VersionSpec> = {}) =>
    node.deploy({ bootstrap }, { runtime: 'provided', handler: 'the.handler', ...spec });
  const call = (spec: VersionSpec, event: unknown = {}, options: CallOptions = {}): Promise<Ended> =>
    node.call(spec, { event, isolation, ...options });

  test('a function in C starts, answers, stays warm, and its output is logged', async () => {
    const spec = await deploy(inC);
    const first = await call(spec, { n: 1 }, { id: 'first' });
    expect(first).toMatchObject({ outcome: Outcome.SUCCESS, text: '{"n":1}' });
    expect(first.receipt?.start).not.toBe(StartPath.WARM);
    await expect.poll(() => first.logs.map(({ text }) => text)).toEqual(['started the.handler', 'event {"n":1}']);
    const second = await call(spec, { n: 2 }, { id: 'second' });
    expect(second).toMatchObject({
      text: '{"n":2}',
      receipt: { start: StartPath.WARM, sandboxId: first.receipt?.sandboxId },
    });
    await expect.poll(() => second.logs).toMatchObject([{ invocationId: 'second', text: 'event {"n":2}' }]);
  });

  test('6 MB go there and back', async () => {
    const spec = await deploy(inC);
    const event = 'x'.repeat(6 * 1024 * 1024 - 2);
    const end = await call(spec, event);
    expect(end.bodyBytes).toBe(6 * 1024 * 1024);
    expect(end.text === JSON.stringify(event)).toBe(true);
  });

  test('an error is the function’s, and an exit is told with its status', async () => {
    const spec = await deploy(inC);
    expect(await call(spec, 'fail')).toMatchObject({
      outcome: Outcome.FUNCTION_ERROR,
      error: { errorType: 'Asked', errorMessage: 'as asked' },
    });
    expect(await call(spec, 'exit', { id: 'x' })).toMatchObject({
      outcome: Outcome.FUNCTION_ERROR,
      error: {
        errorType: 'Runtime.ExitError',
        errorMessage: 'RequestId: x Error: Runtime exited with error: exit status 7',
      },
      receipt: { fault: FaultOwner.FUNCTION },
    });
    expect((await call(spec, 'again')).text).toBe('"again"');
  });

  test('a function in Go, on its standard library, works', async () => {
    if (inGo === undefined) return;
    const spec = await deploy(inGo);
    for (const name of ['World', 'Go']) {
      expect(JSON.parse((await call(spec, { Name: name })).text)).toEqual({ message: `Hello, ${name}!` });
    }
    expect((await call(spec, 'text')).error?.errorType).toBe('BadEvent');
  });

  test('the environment is AWS’s, then the function’s, and nothing of ours', async () => {
    const spec = await deploy(PYTHON, { environment: { GREETING: 'hi', PATH: '/usr/bin:/bin' }, memoryMb: 192 });
    const environment = JSON.parse((await call(spec, { mode: 'environment' })).text) as Record<string, string>;
    expect(environment).toMatchObject({
      GREETING: 'hi',
      PATH: '/usr/bin:/bin',
      _HANDLER: 'the.handler',
      AWS_LAMBDA_RUNTIME_API: expect.stringMatching(/^127\.0\.0\.1:\d+$/),
      AWS_LAMBDA_FUNCTION_NAME: 'under-test',
      AWS_LAMBDA_FUNCTION_VERSION: '1',
      AWS_LAMBDA_FUNCTION_MEMORY_SIZE: '192',
      AWS_LAMBDA_INITIALIZATION_TYPE: 'on-demand',
      AWS_REGION: 'local',
      TZ: ':UTC',
    });
    if (driver !== 'process') {
      expect(environment).toMatchObject({ AWS_LAMBDA_RUNTIME_API: '127.0.0.1:9001', LAMBDA_TASK_ROOT: '/var/task' });
    }
    expect(environment).not.toHaveProperty('LAMBDA_CHANNEL');
    expect(environment).not.toHaveProperty('LAMBDA_NONCE');
  });

  test('the event’s headers say whose it is and how long it may take', async () => {
    const spec = await deploy(PYTHON);
    const before = Date.now();
    const headers = JSON.parse((await call(spec, { mode: 'headers' }, { id: 'an-id' })).text) as Record<string, string>;
    expect(headers).toMatchObject({
      'Lambda-Runtime-Aws-Request-Id': 'an-id',
      'Lambda-Runtime-Invoked-Function-Arn': spec.arn,
      'Content-Type': 'application/json',
    });
    const left = Number(headers['Lambda-Runtime-Deadline-Ms']) - before;
    expect(left).toBeGreaterThanOrEqual(spec.timeoutMs);
    expect(left).toBeLessThan(spec.timeoutMs + 60_000);
  });

  test('a streamed response is collected, with its error when it has one', async () => {
    const spec = await deploy(PYTHON);
    const streamed = await call(spec, { mode: 'stream', chunks: ['"a', 'b', 'c"'] });
    expect(streamed).toMatchObject({ outcome: Outcome.SUCCESS, text: '"abc"' });
    const trailers = {
      'Lambda-Runtime-Function-Error-Type': 'Function.Midway',
      'Lambda-Runtime-Function-Error-Body': Buffer.from('{"errorMessage":"broke"}').toString('base64'),
    };
    const failed = await call(spec, { mode: 'stream', chunks: ['"a'], trailers });
    expect(failed).toMatchObject({ error: { errorType: 'Function.Midway', errorMessage: 'broke' } });
    expect((await call(spec, { value: 1 })).receipt?.start).toBe(StartPath.WARM);
  });

  test('an HTTP response comes as an object, with a head of its own, or as text', async () => {
    const spec = await deploy(PYTHON);
    const http = (event: unknown) => call(spec, event, { kind: InvokeKind.HTTP });
    const object = await http({ value: { statusCode: 201, headers: { 'X-A': 'b' }, cookies: ['c=d'], body: 'made' } });
    expect(object).toMatchObject({
      text: 'made',
      http: { statusCode: 201, headers: [{ name: 'x-a', value: 'b' }], cookies: ['c=d'] },
    });
    const prelude = '{"statusCode":203,"headers":{"content-type":"text/x"}}\0\0\0\0\0\0\0\0streamed';
    const type = 'application/vnd.awslambda.http-integration-response';
    const streamed = await http({ mode: 'stream', chunks: [prelude.slice(0, 20), prelude.slice(20)], type });
    expect(streamed).toMatchObject({
      text: 'streamed',
      http: { statusCode: 203, headers: [{ name: 'content-type', value: 'text/x' }] },
    });
    const text = await http({ mode: 'raw', text: 'plain words' });
    expect(text).toMatchObject({
      text: 'plain words',
      http: { statusCode: 200, headers: [{ name: 'content-type', value: 'text/plain; charset=utf-8' }] },
    });
    const large = await http({ value: { statusCode: 200, body: 'y'.repeat(1_000_000) } });
    expect(large.bodyBytes).toBe(1_000_000);
    const malformed = await http({ value: { statusCode: 20 } });
    expect(malformed.error?.errorType).toBe('Runtime.InvalidHttpResponse');
  });

  test('what is too large, cut off or for somebody else is refused, and the function goes on', async () => {
    const spec = await deploy(PYTHON);
    const tooLarge = await call(spec, { mode: 'too large' });
    expect(tooLarge.error?.errorType).toBe('Function.ResponseSizeTooLarge');
    const truncated = await call(spec, { mode: 'truncated' });
    expect(truncated.error?.errorType).toBe('Runtime.TruncatedResponse');
    const wrong = await call(spec, { mode: 'wrong ids' });
    expect(wrong.text).toBe('1');
    const logged = () => [tooLarge, truncated, wrong].flatMap(({ logs }) => logs.map(({ text }) => text));
    await expect.poll(logged).toEqual(['answered 413', 'answered 400', 'statuses [400, 403] 202 403', 'answered 403']);
    expect((await call(spec, { value: 'on' })).receipt?.start).toBe(StartPath.WARM);
  });

  test('an error has the type that the body says, else the header', async () => {
    const spec = await deploy(PYTHON);
    const said = await call(spec, {
      mode: 'error',
      error: { errorType: 'Mine', errorMessage: 'm', stackTrace: ['a', 'b'] },
    });
    expect(said.error).toMatchObject({ errorType: 'Mine', errorMessage: 'm', trace: ['a', 'b'] });
    const headers = { 'Lambda-Runtime-Function-Error-Type': 'Function.Headed' };
    const headed = await call(spec, { mode: 'error', error: { errorMessage: 'm' }, headers });
    expect(headed.error?.errorType).toBe('Function.Headed');
  });

  test('a program that ends because of an error takes nobody else along', async () => {
    const spec = await deploy(PYTHON);
    for (let i = 0; i < 3; i += 1) {
      expect((await call(spec, { mode: 'error and exit' })).error?.errorType).toBe('Fatal');
      expect(await call(spec, { value: i })).toMatchObject({ outcome: Outcome.SUCCESS, text: String(i) });
    }
  });

  test('a program that ends after each answer is started anew for each call, however soon that comes', async () => {
    const spec = await deploy(PYTHON);
    for (let value = 0; value < 8; value += 1) {
      const ended = await call(spec, { mode: 'answer and exit', value });
      expect(ended).toMatchObject({ outcome: Outcome.SUCCESS, text: String(value) });
    }
  });

  test('a program that cannot start says why, or is told to have ended, and is not kept', async () => {
    const failing = await deploy(PYTHON, { environment: { FAIL_INIT: '1' } });
    expect(await call(failing)).toMatchObject({
      outcome: Outcome.FUNCTION_ERROR,
      error: { errorType: 'Config.Missing', errorMessage: 'no configuration' },
    });
    const leaving = await deploy(PYTHON, { environment: { EXIT_INIT: '1' } });
    const left = await call(leaving);
    expect(left.error).toMatchObject({
      errorType: 'Runtime.ExitError',
      errorMessage: expect.stringContaining('exit status 3'),
    });
    await expect.poll(() => left.logs.map(({ text }) => text)).toEqual(['leaving']);
    const never = await deploy(PYTHON, { environment: { NEVER_READY: '1' }, initTimeoutMs: 1_500 });
    expect(await call(never)).toMatchObject({ outcome: Outcome.TIMEOUT });
    expect(node.host.runner.capacity().versions.map(({ versionId }) => versionId)).not.toContain(never.versionId);
  });

  test.each([
    ['is missing', { 'main.py': '' }, /^Couldn't find valid bootstrap\(s\): \[.*\/bootstrap\]$/],
    [
      'may not be run',
      { bootstrap: { content: '#!/bin/sh\n', mode: 0o644 } },
      /^fork\/exec .*\/bootstrap: permission denied$/,
    ],
    ['is no program', { bootstrap: 'echo no shebang\n' }, /^fork\/exec .*\/bootstrap: exec format error$/],
    [
      'wants what is not there',
      { bootstrap: '#!/no/such/interpreter\n' },
      /^fork\/exec .*\/bootstrap: no such file or directory$/,
    ],
  ])('a bootstrap that %s is an invalid entry point', async (_, files, message) => {
    const spec = await node.deploy(files, { runtime: 'provided', handler: 'bootstrap' });
    for (const kind of [InvokeKind.CHECK, InvokeKind.EVENT]) {
      const end = await call(spec, {}, { kind });
      expect(end).toMatchObject({ outcome: Outcome.FUNCTION_ERROR, receipt: { fault: FaultOwner.FUNCTION } });
      expect(end.error).toMatchObject({
        errorType: 'Runtime.InvalidEntrypoint',
        errorMessage: expect.stringMatching(message),
      });
    }
  });

  test('a check leaves the program ready for the first call', async () => {
    const spec = await deploy(PYTHON);
    expect((await call(spec, {}, { kind: InvokeKind.CHECK })).outcome).toBe(Outcome.SUCCESS);
    expect(await call(spec, { value: 7 })).toMatchObject({ text: '7', receipt: { start: StartPath.WARM } });
  });

  test('a deadline, a signal and too much memory end it and are told apart', async () => {
    const slow = await deploy('#!/bin/sh\nexec sleep 1000\n', { initTimeoutMs: 500 });
    expect((await call(slow)).outcome).toBe(Outcome.TIMEOUT);
    const spec = await deploy(PYTHON, { memoryMb: 128, timeoutMs: 60_000 });
    const killed = await call(spec, { mode: 'signal', signal: 11 });
    expect(killed.error).toMatchObject({
      errorType: 'Runtime.ExitError',
      errorMessage: expect.stringContaining('signal: SIGSEGV'),
    });
    expect((await call(spec, { mode: 'memory' })).error?.errorType).toBe('Runtime.OutOfMemory');
    expect((await call(spec, { value: 1 })).text).toBe('1');
  });

  test('a hostile program ends its own sandbox and no more', async () => {
    const spec = await deploy(PYTHON, { timeoutMs: 3_000 });
    expect((await call(spec, { mode: 'leak' })).text).toBe('"leaked"');
    // 80 connections are more than there may be: the program shuts itself out.
    expect((await call(spec, { mode: 'leak' })).outcome).toBe(Outcome.TIMEOUT);
    expect((await call(spec, { mode: 'pipeline' })).error).toMatchObject({ errorType: 'Runtime.ProtocolViolation' });
    expect((await call(spec, { mode: 'kill init' })).error).toMatchObject({
      errorType: 'Runtime.ExitError',
      errorMessage: expect.stringContaining('signal: SIGKILL'),
    });
    expect((await call(spec, { value: 'fine' })).text).toBe('"fine"');
  });

  test('a program finds no network, and nothing of the init’s', async () => {
    const spec = await deploy(PYTHON);
    const found = JSON.parse((await call(spec, { mode: 'look around' })).text) as Record<string, unknown>;
    if (driver !== 'process') expect(found.interfaces).toEqual(['lo']);
    const refused = /^(Permission denied|Input\/output error|No such device( or address)?|No such file or directory)$/;
    for (const name of ['mem', 'fd/3', 'fd/4', 'fd/5', 'fd/6']) expect(found[name]).toMatch(refused);
    // gVisor shows an environment to everybody of the same user.
    expect(found.environ).toMatch(/^Permission denied$|LAMBDA_NONCE=0{32}\0/);
  });
});

describe.each([
  ['runc', 'docker'],
  ['gvisor', 'docker'],
  ['none', 'process'],
] as const)('under %s', (isolation, driver) => {
  let node: HostUnderTest;
  afterEach(() => node?.close());
  const deploy = (spec: Partial<VersionSpec>) =>
    node.deploy({ bootstrap: PYTHON }, { runtime: 'provided', handler: 'h', ...spec });
  const call = (spec: VersionSpec, event: unknown, options: CallOptions = {}) =>
    node.call(spec, { event, isolation, ...options });

  test('a blank becomes any function, of any memory', async () => {
    node = await HostUnderTest.open(driver, { blanks: 1 });
    await call(await deploy({ memoryMb: 128 }), {}, { singleUse: true });
    for (const memoryMb of [96, 512]) {
      const blanks = () => node.host.runner.capacity().blanks.reduce((sum, { count }) => sum + count, 0);
      await expect.poll(blanks, { timeout: 20_000 }).toBe(1);
      const spec = await deploy({ memoryMb });
      expect(await call(spec, { value: memoryMb })).toMatchObject({
        text: String(memoryMb),
        receipt: { start: StartPath.BLANK },
      });
      expect((await call(spec, { mode: 'memory' })).error?.errorType).toBe('Runtime.OutOfMemory');
    }
  });

  test('an idle program is frozen, and goes on when it is called', async () => {
    node = await HostUnderTest.open(driver);
    const [awake, frozen] = await Promise.all([deploy({ keepRunning: true }), deploy({})]);
    const first = await call(frozen, { mode: 'ticks' });
    const ticksAwake = async () => Number((await call(awake, { mode: 'ticks' })).text);
    const before = await ticksAwake();
    await expect.poll(ticksAwake, { timeout: 20_000 }).toBeGreaterThan(before + 300);
    const again = await call(frozen, { mode: 'ticks' });
    expect(again.receipt).toMatchObject({ start: StartPath.WARM, sandboxId: first.receipt?.sandboxId });
    expect(Number(again.text) - Number(first.text)).toBeLessThan(200);
  });

  test('a program that asks several times gets several events at a time', async () => {
    node = await HostUnderTest.open(driver);
    const spec = await deploy({ concurrency: 3, environment: { THREADS: '3' } });
    await call(spec, {});
    const ends = await Promise.all([1, 2, 3].map(() => call(spec, { mode: 'sleep', seconds: 0.4 })));
    expect(ends.map(({ text }) => text)).toEqual(['"slept"', '"slept"', '"slept"']);
    expect(ends.map(({ receipt }) => receipt?.shared)).toEqual([true, true, true]);
    expect(new Set(ends.map(({ receipt }) => receipt?.sandboxId)).size).toBe(1);
  });
});
