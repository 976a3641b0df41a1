import { mkdtemp, rm, stat } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { listenForRuntime } from './channel-listener.js';
import { ChannelClosed, Conversation, type InitMessage, type InvokeMessage } from './conversation.js';
import { encodeHead, FrameType, HEAD_BYTES, LENGTH_MIN } from './frame.js';
import { FrameParser } from './frame-parser.js';
import type { LogMessage } from './runtime-messages.js';

const NONCE = '0123456789abcdef0123456789abcdef';
const HELLO = { protocol: 1, nonce: NONCE, runtime: 'nodejs', version: 'v22', pid: 1 };
const INIT: InitMessage = {
  handler: 'index.handler',
  functionName: 'f',
  functionVersion: '1',
  functionArn: 'arn',
  memoryMb: 128,
  timeoutMs: 1000,
  environment: {},
  logGroup: 'g',
  logStream: 's',
  concurrency: 1,
  realm: '',
};
const invokeMessage = (id: string, http = false): InvokeMessage => ({
  id,
  deadlineMs: 0,
  arn: 'arn',
  traceId: '',
  clientContext: '',
  http,
});

let directory: string;
let runtime: Socket;
let conversation: Conversation;
let received: { readonly type: number; readonly body: Buffer }[];
let logs: { readonly message: LogMessage; readonly text: string }[];
let closed: Promise<string>;

const send = (type: number, meta: object, body: Buffer | string = ''): boolean =>
  runtime.write(Buffer.concat([encodeHead(type, meta, Buffer.byteLength(body)), Buffer.from(body)]));

/** An ERROR whose meta is this text. */
function sendMeta(text: string): void {
  const meta = Buffer.from(text);
  const head = encodeHead(FrameType.ERROR, {}, 0).subarray(0, HEAD_BYTES);
  head.writeUInt32BE(LENGTH_MIN + meta.length, 0);
  head.writeUInt32BE(meta.length, 5);
  runtime.write(Buffer.concat([head, meta]));
}

const sendError = (trace: string) => sendMeta(`{"id":"a","errorType":"x","errorMessage":"y","trace":${trace}}`);

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'channel-'));
  const path = join(directory, 'agent.sock');
  const listener = await listenForRuntime({ path, uid: undefined });
  runtime = connect(path);
  runtime.on('error', () => {});
  received = [];
  logs = [];
  const parser = new FrameParser((frame) => {
    received.push({ type: frame.type, body: frame.body });
    return true;
  });
  runtime.on('data', (chunk) => parser.push(chunk));
  const stream = await listener.connected;
  conversation = new Conversation({ stream, nonce: NONCE, helloDeadlineMs: 60_000, pingIntervalMs: 60_000 });
  closed = new Promise((resolve) => {
    conversation.listen({
      wantsLog: (bytes) => bytes < 100,
      log: (message, text) => logs.push({ message, text: text.toString() }) > 0,
      closed: (violation) => resolve(violation?.message ?? 'hung up'),
    });
  });
});

afterEach(async () => {
  conversation.close();
  runtime.destroy();
  await rm(directory, { recursive: true, force: true });
});

async function greet(): Promise<void> {
  send(FrameType.HELLO, HELLO);
  await conversation.hello;
}

async function becomeIdle(concurrency = 1): Promise<void> {
  await greet();
  const ready = conversation.init({ ...INIT, concurrency });
  send(FrameType.READY, {});
  expect(await ready).toEqual({ ready: true });
}

/** As many firings of an interval like the conversation's own. */
function ticks(count: number): Promise<void> {
  return new Promise((resolve) => {
    let left = count;
    const timer = setInterval(() => {
      left -= 1;
      if (left > 0) return;
      clearInterval(timer);
      resolve();
    }, 1);
  });
}

const invoke = (id: string, http = false) => conversation.invoke(invokeMessage(id, http), Buffer.from('{}'), () => {});

test('a whole conversation: HELLO, INIT, READY, two invocations with a log line', async () => {
  await becomeIdle();
  const ts = Date.now() - 5;
  const first = invoke('a');
  send(FrameType.LOG, { id: 'a', stream: 'stdout', level: 'INFO', ts }, 'line');
  send(FrameType.RESPONSE, { id: 'a' }, '{"ok":1}');
  expect(await first).toEqual({ kind: 'response', body: Buffer.from('{"ok":1}'), http: undefined });
  expect(logs).toEqual([{ message: { id: 'a', stream: 'stdout', level: 'INFO', unixMs: ts }, text: 'line' }]);
  const second = invoke('b');
  send(FrameType.ERROR, { id: 'b', errorType: 'TypeError', errorMessage: 'no', trace: ['at x'] });
  expect(await second).toEqual({
    kind: 'error',
    error: { errorType: 'TypeError', errorMessage: 'no', trace: ['at x'], exiting: false },
  });
});

test('an INIT_ERROR carries where the code does not parse', async () => {
  await greet();
  const init = conversation.init(INIT);
  const location = { file: 'index.mjs', line: 3, column: 9 };
  send(FrameType.INIT_ERROR, { errorType: 'Runtime.UserCodeSyntaxError', errorMessage: 'x', trace: [], location });
  expect(await init).toMatchObject({ ready: false, location });
});

test('a large event reaches a slow reader whole, and is reported written only then', async () => {
  await becomeIdle();
  runtime.pause();
  const event = Buffer.alloc(6 * 1024 * 1024, 7);
  let written = false;
  const result = conversation.invoke(invokeMessage('a'), event, () => {
    written = true;
  });
  await new Promise((resolve) => setImmediate(resolve));
  expect(written).toBe(false);
  runtime.resume();
  await expect.poll(() => received.find(({ type }) => type === FrameType.INVOKE)?.body.equals(event)).toBe(true);
  expect(written).toBe(true);
  send(FrameType.RESPONSE, { id: 'a' }, event);
  expect(await result).toMatchObject({ kind: 'response' });
});

test('a small result does not keep the chunk it came in', async () => {
  await becomeIdle();
  const result = invoke('a');
  const log = Buffer.concat([
    encodeHead(FrameType.LOG, { id: 'a', stream: 'stdout', level: 'INFO', ts: 1 }, 30_000),
    Buffer.alloc(30_000),
  ]);
  runtime.write(Buffer.concat([log, encodeHead(FrameType.RESPONSE, { id: 'a' }, 2), Buffer.from('{}')]));
  const { body } = (await result) as { readonly body: Buffer };
  expect(body.buffer.byteLength).toBeLessThan(16_384);
});

describe('before HELLO', () => {
  test.each([
    ['a wrong nonce', () => send(FrameType.HELLO, { ...HELLO, nonce: NONCE.replace('0', '1') })],
    ['a nonce of another length', () => send(FrameType.HELLO, { ...HELLO, nonce: '' })],
    ['another protocol', () => send(FrameType.HELLO, { ...HELLO, protocol: 2 })],
    ['an unknown runtime', () => send(FrameType.HELLO, { ...HELLO, runtime: 'perl' })],
    ['READY', () => send(FrameType.READY, {})],
    ['PONG', () => send(FrameType.PONG, {})],
    ['a log line', () => send(FrameType.LOG, { id: null, stream: 'stdout', level: '', ts: 1 })],
    ['a result', () => send(FrameType.RESPONSE, { id: 'a' })],
    ['a frame that only the agent sends', () => send(FrameType.PING, {})],
    ['bytes that are no frame', () => runtime.write('GET / HTTP/1.1\r\n\r\n')],
    ['meta that is no JSON', () => runtime.write(Buffer.from([0, 0, 0, 6, FrameType.HELLO, 0, 0, 0, 1, 0x7b]))],
    ['meta that is no object', () => runtime.write(Buffer.from([0, 0, 0, 6, FrameType.HELLO, 0, 0, 0, 1, 0x31]))],
  ])('%s ends the conversation', async (_, act) => {
    act();
    await expect(conversation.hello).rejects.toThrow(ChannelClosed);
    expect(await closed).not.toBe('hung up');
  });
});

describe('a runtime that has greeted', () => {
  test.each([
    ['greets twice', () => send(FrameType.HELLO, HELLO)],
    ['answers a PING that was never sent', () => send(FrameType.PONG, {})],
    ['is ready before INIT', () => send(FrameType.READY, {})],
    ['sends a result', () => send(FrameType.RESPONSE, { id: 'a' })],
    ['logs before INIT', () => send(FrameType.LOG, { id: null, stream: 'stdout', level: '', ts: 1 })],
    ['uses an unknown type', () => send(0x55, {})],
  ])('and %s is cut off', async (_, act) => {
    await greet();
    act();
    expect(await closed).not.toBe('hung up');
  });
});

describe('a running invocation ends in a violation when the runtime', () => {
  test.each([
    ['answers for another id', () => send(FrameType.RESPONSE, { id: 'b' })],
    ['reports an error of another id', () => send(FrameType.ERROR, { id: 'b', errorType: '', errorMessage: '' })],
    ['answers without an id', () => send(FrameType.RESPONSE, {})],
    ['is ready again', () => send(FrameType.READY, {})],
    ['greets again', () => send(FrameType.HELLO, HELLO)],
    ['sends an error without a message', () => send(FrameType.ERROR, { id: 'a', errorType: 'x' })],
    ['logs to no stream', () => send(FrameType.LOG, { id: 'a', stream: 'x', level: '', ts: 1 })],
    ['logs two lines as one', () => send(FrameType.LOG, { id: 'a', stream: 'stdout', level: '', ts: 1 }, 'a\nEND b')],
    ['sends a trace that cannot become text', () => sendError('[{"toString":null,"valueOf":null}]')],
    ['sends a trace too deep for the stack', () => sendError(`${'['.repeat(60_000)}${']'.repeat(60_000)}`)],
    ['sends meta too deep for the stack', () => sendMeta(`${'['.repeat(130_000)}${']'.repeat(130_000)}`)],
  ])('%s', async (_, act) => {
    await becomeIdle();
    const result = invoke('a');
    act();
    await expect(result).rejects.toMatchObject({ violation: expect.anything() });
  });

  const head = { statusCode: 200, headers: [], cookies: [] };
  test.each([
    ['no HTTP head', undefined],
    ['status 99', { ...head, statusCode: 99 }],
    ['status 200.5', { ...head, statusCode: 200.5 }],
    ['a header with a line break', { ...head, headers: [['a', 'b\r\nset-cookie: x']] }],
    ['a header name with a space', { ...head, headers: [['a b', 'c']] }],
    ['a header that is no pair', { ...head, headers: ['a'] }],
    ['a cookie that is no text', { ...head, cookies: [1] }],
    ['more than 32 KiB of headers', { ...head, headers: [['a', 'x'.repeat(33_000)]] }],
  ])('answers HTTP with %s', async (_, http) => {
    await becomeIdle();
    const result = invoke('a', true);
    send(FrameType.RESPONSE, { id: 'a', http });
    await expect(result).rejects.toMatchObject({ violation: expect.anything() });
  });
});

test('a second result for an invocation ends the conversation', async () => {
  await becomeIdle();
  const result = invoke('a');
  send(FrameType.RESPONSE, { id: 'a' }, '1');
  send(FrameType.RESPONSE, { id: 'a' }, '2');
  expect(await result).toMatchObject({ body: Buffer.from('1') });
  expect(await closed).toMatch(/nothing was running/);
});

describe('with a concurrency of 2', () => {
  test('results come in any order, each to its own invocation', async () => {
    await becomeIdle(2);
    const [first, second] = [invoke('a'), invoke('b', true)];
    send(FrameType.RESPONSE, { id: 'b', http: { statusCode: 201, headers: [], cookies: [] } }, 'two');
    expect(await second).toMatchObject({ body: Buffer.from('two'), http: { statusCode: 201 } });
    const third = invoke('c');
    send(FrameType.RESPONSE, { id: 'c' }, 'three');
    send(FrameType.ERROR, { id: 'a', errorType: 'E', errorMessage: 'one' });
    expect(await third).toMatchObject({ body: Buffer.from('three') });
    expect(await first).toMatchObject({ kind: 'error', error: { errorMessage: 'one' } });
  });

  test('a third is refused before anything is sent, and so is an id that is in flight', async () => {
    await becomeIdle(2);
    const first = invoke('a');
    expect(() => invoke('a')).toThrow(/in flight already/);
    const second = invoke('b');
    expect(() => invoke('c')).toThrow(/2 invocations are in flight/);
    send(FrameType.RESPONSE, { id: 'a' });
    send(FrameType.RESPONSE, { id: 'b' });
    await Promise.all([first, second]);
    await expect.poll(() => received.filter(({ type }) => type === FrameType.INVOKE).length).toBe(2);
  });

  test('a result for an id that is not in flight rejects all that are', async () => {
    await becomeIdle(2);
    const [first, second] = [invoke('a'), invoke('b')];
    send(FrameType.RESPONSE, { id: 'a' });
    await first;
    const third = invoke('c');
    send(FrameType.RESPONSE, { id: 'a' });
    await expect(second).rejects.toMatchObject({ violation: { message: 'a result names another invocation' } });
    await expect(third).rejects.toThrow(ChannelClosed);
  });

  test('a malformed result rejects its own invocation too', async () => {
    await becomeIdle(2);
    const [first, second] = [invoke('a', true), invoke('b')];
    send(FrameType.RESPONSE, { id: 'a' });
    await expect(first).rejects.toThrow(ChannelClosed);
    await expect(second).rejects.toThrow(ChannelClosed);
  });

  test('an uncaught exception is the result of each', async () => {
    await becomeIdle(2);
    const results = [invoke('a'), invoke('b')];
    for (const id of ['a', 'b']) {
      send(FrameType.ERROR, { id, errorType: 'RangeError', errorMessage: 'from a timer', exiting: true });
    }
    for (const result of results) expect(await result).toMatchObject({ error: { exiting: true } });
  });
});

describe('compiling', () => {
  const file = (path: string, bytes: Buffer | string = 'x') => send(FrameType.COMPILED, { path }, bytes);

  test('resolves with the files when the last frame has come', async () => {
    await greet();
    const compiled = conversation.compile();
    file('node/v22-x64/0a1b', 'one');
    file('python/cpython-311/lib/__init__.pyc', '');
    send(FrameType.COMPILED, { done: true });
    expect(await compiled).toEqual([
      { path: 'node/v22-x64/0a1b', bytes: Buffer.from('one') },
      { path: 'python/cpython-311/lib/__init__.pyc', bytes: Buffer.alloc(0) },
    ]);
    await expect.poll(() => received.map(({ type }) => type)).toEqual([FrameType.COMPILE]);
    expect(() => conversation.init(INIT)).toThrow(/from compiling/);
  });

  test.each([
    ['leaves the folder', () => file('../x')],
    ['leaves the folder later', () => file('a/../../x')],
    ['is absolute', () => file('/etc/passwd')],
    ['has an empty name', () => file('a//b')],
    ['is empty', () => file('')],
    ['holds a NUL', () => file('a\0b')],
    ['is too long', () => file('a/'.repeat(300))],
    ['is no text', () => send(FrameType.COMPILED, { path: 1 })],
  ])('a path that %s ends the conversation', async (_, act) => {
    await greet();
    const compiled = conversation.compile();
    act();
    await expect(compiled).rejects.toMatchObject({ violation: { message: 'COMPILED has a malformed path' } });
  });

  test.each([
    ['a path twice', () => [file('a'), file('a')]],
    ['a log line', () => send(FrameType.LOG, { id: null, stream: 'stdout', level: '', ts: 1 })],
    ['READY', () => send(FrameType.READY, {})],
    ['more than 64 MiB', () => Array.from({ length: 11 }, (_, i) => file(`f${i}`, Buffer.alloc(6 * 1024 * 1024)))],
  ])('%s ends the conversation', async (_, act) => {
    await greet();
    const compiled = conversation.compile();
    act();
    await expect(compiled).rejects.toMatchObject({ violation: expect.anything() });
  });

  test('is over with the last frame, and cannot come unasked', async () => {
    await greet();
    const compiled = conversation.compile();
    send(FrameType.COMPILED, { done: true });
    await compiled;
    file('a');
    expect(await closed).toMatch(/nothing was being compiled/);
  });
});

test('nothing is sent before READY', async () => {
  await greet();
  expect(() => invoke('a')).toThrow(/while blank/);
  void conversation.init(INIT).catch(() => {});
  expect(() => invoke('a')).toThrow(/while initialising/);
});

test('a frozen runtime is not pinged, and is again once it is thawed', async () => {
  const path = join(directory, 'pinged.sock');
  const listener = await listenForRuntime({ path, uid: undefined });
  const peer = connect(path);
  const stream = await listener.connected;
  let pings = 0;
  const parser = new FrameParser(({ type }) => {
    if (type === FrameType.PING) pings += 1;
    peer.write(encodeHead(FrameType.PONG, {}, 0));
    return true;
  });
  peer.on('data', (chunk) => parser.push(chunk));
  const pinged = new Conversation({ stream, nonce: NONCE, helloDeadlineMs: 60_000, pingIntervalMs: 1 });
  peer.write(encodeHead(FrameType.HELLO, HELLO, 0));
  await expect.poll(() => pings).toBeGreaterThan(1);

  pinged.setFrozen(true);
  // What was on its way has arrived after a few turns.
  await ticks(5);
  const whileFrozen = pings;
  await ticks(20);
  expect(pings).toBe(whileFrozen);

  pinged.setFrozen(false);
  await expect.poll(() => pings).toBeGreaterThan(whileFrozen);
  pinged.close();
  peer.destroy();
});

test('a runtime that hangs up leaves its invocation without a violation', async () => {
  await becomeIdle();
  const result = invoke('a');
  runtime.end();
  await expect(result).rejects.toMatchObject({ violation: undefined });
  expect(await closed).toBe('hung up');
});

test('the socket is gone once a runtime has connected', async () => {
  await expect(stat(join(directory, 'agent.sock'))).rejects.toMatchObject({ code: 'ENOENT' });
});

test('a connection that sends no HELLO is cut off', async () => {
  const path = join(directory, 'other.sock');
  const listener = await listenForRuntime({ path, uid: undefined });
  const silent = connect(path);
  const stream = await listener.connected;
  const mute = new Conversation({ stream, nonce: NONCE, helloDeadlineMs: 1, pingIntervalMs: 60_000 });
  await expect(mute.hello).rejects.toThrow(/no HELLO/);
  silent.destroy();
});

test('a flood of log lines is dropped unread and memory stays flat', async () => {
  await becomeIdle();
  const result = invoke('a');
  const line = Buffer.concat([encodeHead(FrameType.LOG, { never: 'parsed' }, 1000), Buffer.alloc(1000)]);
  const block = Buffer.concat(Array.from({ length: 60 }, () => line));
  const before = process.memoryUsage().arrayBuffers;
  for (let i = 0; i < 1000; i += 1) {
    if (!runtime.write(block)) await new Promise((resolve) => runtime.once('drain', resolve));
  }
  send(FrameType.RESPONSE, { id: 'a' }, 'ok');
  expect(await result).toMatchObject({ kind: 'response' });
  expect(logs).toEqual([]);
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(64 * 1024 * 1024);
});

test('a burst of lines that are kept is read bit by bit, and none is lost', async () => {
  await becomeIdle();
  const result = invoke('a');
  const line = Buffer.concat([
    encodeHead(FrameType.LOG, { id: 'a', stream: 'stdout', level: '', ts: 1 }, 1),
    Buffer.from('x'),
  ]);
  for (let block = 0; block < 10; block += 1) runtime.write(Buffer.concat(Array.from({ length: 500 }, () => line)));
  send(FrameType.RESPONSE, { id: 'a' });
  // A burst is let in at once; the turns of the event loop in which the rest waits are what neighbours are served in.
  const atOnce = await new Promise<number>((resolve) => {
    const look = setInterval(() => {
      if (logs.length < 1_000) return;
      clearInterval(look);
      resolve(logs.length);
    }, 1);
  });
  expect(atOnce).toBeLessThan(5_000);
  await result;
  expect(logs).toHaveLength(5_000);
});
