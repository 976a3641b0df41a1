import { once } from 'node:events';
import { type Duplex, duplexPair } from 'node:stream';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { ChannelClosed } from '../channel/conversation.js';
import type { ProtocolViolation } from '../channel/protocol-violation.js';
import { InitChannel } from './init-channel.js';
import { DATA_BYTES_MAX, InitFrame, WINDOW_BYTES } from './init-frame.js';

const NONCE = '0123456789abcdef0123456789abcdef';
const PROGRAM = { argv: ['/bin/true'], workingDirectory: '', environment: { A: '1' }, runtimeApi: true };

interface Received {
  readonly type: number;
  readonly body: Buffer;
}

let peer: Duplex;
let channel: InitChannel;
let accepted: Duplex[];
let received: Received[];
let closed: Promise<ProtocolViolation | undefined>;

const HELLO = { protocol: 1, nonce: NONCE, runtime: 'provided', version: '1', pid: 7 };

function send(type: number, body: Uint8Array = Buffer.alloc(0), meta = ''): void {
  const head = Buffer.alloc(9);
  head.writeUInt32BE(5 + meta.length + body.length, 0);
  head.writeUInt8(type, 4);
  head.writeUInt32BE(meta.length, 5);
  peer.write(Buffer.concat([head, Buffer.from(meta), body]));
}

const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};
const onStream = (type: number, id: number, rest: Buffer | string = ''): void =>
  send(type, Buffer.concat([u32(id), Buffer.from(rest)]));
const ofStream = (type: number, id: number) =>
  received.filter((frame) => frame.type === type && frame.body.readUInt32BE(0) === id);
const dataOf = (id: number) => Buffer.concat(ofStream(InitFrame.AGENT_DATA, id).map(({ body }) => body.subarray(4)));

beforeEach(() => {
  const [ours, theirs] = duplexPair();
  peer = theirs;
  accepted = [];
  received = [];
  let buffered = Buffer.alloc(0);
  peer.on('data', (chunk: Buffer) => {
    buffered = Buffer.concat([buffered, chunk]);
    while (buffered.length >= 4 && buffered.length >= 4 + buffered.readUInt32BE(0)) {
      const end = 4 + buffered.readUInt32BE(0);
      received.push({ type: buffered.readUInt8(4), body: buffered.subarray(9 + buffered.readUInt32BE(5), end) });
      buffered = buffered.subarray(end);
    }
  });
  peer.on('error', () => {});
  let isClosed: (violation: ProtocolViolation | undefined) => void = () => {};
  closed = new Promise((resolve) => {
    isClosed = resolve;
  });
  channel = new InitChannel({
    stream: ours,
    nonce: NONCE,
    helloDeadlineMs: 60_000,
    pingIntervalMs: 60_000,
    listener: { accepted: (stream) => accepted.push(stream), closed: isClosed },
  });
});

afterEach(() => {
  channel.close();
  peer.destroy();
});

async function greet(): Promise<void> {
  send(InitFrame.HELLO, undefined, JSON.stringify(HELLO));
  await channel.hello;
}

async function run(): Promise<void> {
  await greet();
  const started = channel.start(PROGRAM, { functionName: 'f' });
  send(InitFrame.STARTED, Buffer.from([0x23, 0x29]));
  expect(await started).toBeUndefined();
}

/** A connection of the program, as the agent sees it. */
async function accept(id = 1): Promise<Duplex> {
  const before = accepted.length;
  onStream(InitFrame.OPEN, id);
  await expect.poll(() => accepted.length).toBe(before + 1);
  const stream = accepted[before];
  if (stream === undefined) throw new Error('nothing was accepted');
  return stream;
}

test('INIT says what to start, and NOT_STARTED why it was not', async () => {
  await greet();
  const started = channel.start(PROGRAM, { functionName: 'f' });
  await expect.poll(() => received.length).toBe(1);
  expect(received[0]?.body.toString()).toBe('9001\0\x001\0/bin/true\0A=1\0');
  send(InitFrame.NOT_STARTED, Buffer.concat([Buffer.from([4]), u32(13)]));
  expect(await started).toEqual({ step: 'program', errno: 13 });
  onStream(InitFrame.OPEN, 1);
  expect((await closed)?.message).toMatch(/before the program was started/);
});

test('PING is answered once, and not sent to a frozen sandbox', async () => {
  const [ours, theirs] = duplexPair();
  const pinging = new InitChannel({
    stream: ours,
    nonce: NONCE,
    helloDeadlineMs: 60_000,
    pingIntervalMs: 1,
    listener: { accepted: () => {}, closed: () => {} },
  });
  peer = theirs;
  let pings = 0;
  theirs.on('data', (chunk: Buffer) => {
    pings += chunk.length / 9;
  });
  send(InitFrame.HELLO, undefined, JSON.stringify(HELLO));
  await pinging.hello;
  await expect.poll(() => pings).toBeGreaterThan(2);
  pinging.setFrozen(true);
  const before = pings;
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(pings - before).toBeLessThanOrEqual(1);
  pinging.setFrozen(false);
  await expect.poll(() => pings).toBeGreaterThan(before + 2);
  send(InitFrame.PONG);
  pinging.close();
});

describe('a stream of the program', () => {
  beforeEach(run);

  test('carries bytes in both directions and half closes', async () => {
    const stream = await accept();
    onStream(InitFrame.DATA, 1, 'question');
    onStream(InitFrame.END, 1);
    let heard = '';
    stream.on('data', (chunk) => {
      heard += chunk;
    });
    await once(stream, 'end');
    expect(heard).toBe('question');
    stream.end('answer');
    await once(stream, 'close');
    await expect.poll(() => ofStream(InitFrame.AGENT_END, 1)).toHaveLength(1);
    expect(dataOf(1).toString()).toBe('answer');
    expect(ofStream(InitFrame.AGENT_RESET, 1)).toEqual([]);
  });

  test('gets no more credit than its reader takes', async () => {
    const stream = await accept();
    const piece = Buffer.alloc(DATA_BYTES_MAX, 'x');
    for (let sent = 0; sent < WINDOW_BYTES; sent += piece.length) onStream(InitFrame.DATA, 1, piece);
    await new Promise((resolve) => setImmediate(resolve));
    expect(ofStream(InitFrame.AGENT_WINDOW, 1)).toEqual([]);
    let heard = 0;
    stream.on('data', (chunk: Buffer) => {
      heard += chunk.length;
    });
    await expect.poll(() => heard).toBe(WINDOW_BYTES);
    const given = ofStream(InitFrame.AGENT_WINDOW, 1).reduce((sum, { body }) => sum + body.readUInt32BE(4), 0);
    expect(given).toBeGreaterThanOrEqual(WINDOW_BYTES / 2);
    expect(given).toBeLessThanOrEqual(WINDOW_BYTES);
  });

  test('that sends single bytes to nobody costs no more than its window', async () => {
    await accept();
    const before = process.memoryUsage();
    for (let i = 0; i < WINDOW_BYTES; i += 1) {
      onStream(InitFrame.DATA, 1, 'x');
      if (i % 512 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    const after = process.memoryUsage();
    expect(after.arrayBuffers - before.arrayBuffers).toBeLessThan(32 * 1024 * 1024);
    let heard = 0;
    accepted[0]?.on('data', (chunk: Buffer) => {
      heard += chunk.length;
    });
    await expect.poll(() => heard).toBe(WINDOW_BYTES);
  });

  test('is written under credit, in frames of at most 16 KiB', async () => {
    const stream = await accept();
    const content = Buffer.alloc(200_000, 'abcdefg');
    let written = false;
    stream.write(content, () => {
      written = true;
    });
    await expect.poll(() => dataOf(1).length).toBe(WINDOW_BYTES);
    expect(written).toBe(false);
    while (dataOf(1).length < content.length) {
      const before = dataOf(1).length;
      onStream(InitFrame.WINDOW, 1, u32(30_000));
      await expect.poll(() => dataOf(1).length).toBe(Math.min(content.length, before + 30_000));
    }
    await expect.poll(() => written).toBe(true);
    expect(dataOf(1).equals(content)).toBe(true);
    expect(Math.max(...ofStream(InitFrame.AGENT_DATA, 1).map(({ body }) => body.length))).toBe(4 + DATA_BYTES_MAX);
  });

  test('leaves as one frame what is written together', async () => {
    const stream = await accept();
    stream.cork();
    stream.write('head ');
    stream.write('and body');
    stream.uncork();
    await expect.poll(() => dataOf(1).toString()).toBe('head and body');
    expect(ofStream(InitFrame.AGENT_DATA, 1)).toHaveLength(1);
  });

  test('that is destroyed is reset, and what still comes for it is ignored', async () => {
    const stream = await accept();
    stream.destroy();
    await expect.poll(() => ofStream(InitFrame.AGENT_RESET, 1)).toHaveLength(1);
    onStream(InitFrame.DATA, 1, 'late');
    onStream(InitFrame.WINDOW, 1, u32(1));
    onStream(InitFrame.END, 1);
    onStream(InitFrame.RESET, 1);
    await accept(3);
  });

  test('that the init resets is destroyed, and what was to be written fails', async () => {
    const stream = await accept();
    const error = once(stream, 'error');
    const failed = new Promise((resolve) => stream.write(Buffer.alloc(100_000), resolve));
    onStream(InitFrame.RESET, 1);
    expect(await error).toMatchObject([{ code: 'ECONNRESET' }]);
    expect(await failed).toMatchObject({ code: 'ECONNRESET' });
    await new Promise((resolve) => setImmediate(resolve));
    expect(ofStream(InitFrame.AGENT_RESET, 1)).toEqual([]);
  });

  test('ends with the channel', async () => {
    const stream = await accept();
    channel.close();
    await expect.poll(() => stream.closed).toBe(true);
  });

  test('may be opened 64 times at once, again when some are over, and not once more', async () => {
    for (let id = 1; id <= 127; id += 2) onStream(InitFrame.OPEN, id);
    await expect.poll(() => accepted.length).toBe(64);
    accepted[5]?.destroy();
    onStream(InitFrame.RESET, 1);
    onStream(InitFrame.OPEN, 129);
    onStream(InitFrame.OPEN, 131);
    await expect.poll(() => accepted.length).toBe(66);
    onStream(InitFrame.OPEN, 133);
    expect((await closed)?.message).toMatch(/too many streams/);
  });
});

describe('a connection to the program', () => {
  beforeEach(run);

  test('is there once the init says so', async () => {
    const connecting = channel.connect(8080, { wait: true });
    await expect
      .poll(() => ofStream(InitFrame.AGENT_OPEN, 2).map(({ body }) => body.subarray(4)))
      .toEqual([Buffer.from([0x1f, 0x90, 1])]);
    onStream(InitFrame.OPENED, 2);
    const stream = await connecting;
    stream.write('hello');
    await expect.poll(() => dataOf(2).toString()).toBe('hello');
    onStream(InitFrame.DATA, 2, 'world');
    expect(await once(stream, 'data')).toEqual([Buffer.from('world')]);
    stream.destroy();
  });

  test('is refused, given up, or lost with the sandbox', async () => {
    const refused = channel.connect(1, { wait: false });
    onStream(InitFrame.RESET, 2);
    await expect(refused).rejects.toMatchObject({ code: 'ECONNRESET' });
    const patience = new AbortController();
    const givenUp = channel.connect(1, { wait: true, signal: patience.signal });
    patience.abort();
    await expect(givenUp).rejects.toMatchObject({ code: 'ECONNRESET' });
    await expect.poll(() => ofStream(InitFrame.AGENT_RESET, 4)).toHaveLength(1);
    // It crossed the abort.
    onStream(InitFrame.OPENED, 4);
    const lost = channel.connect(1, { wait: true });
    channel.close();
    await expect(lost).rejects.toMatchObject({ code: 'ECONNRESET' });
    await expect(channel.connect(1, { wait: true })).rejects.toBeInstanceOf(ChannelClosed);
  });

  test('cannot be had more than 64 times at once', async () => {
    const all = Array.from({ length: 65 }, () => channel.connect(1, { wait: true }));
    await expect(all[64]).rejects.toMatchObject({ code: 'ECONNRESET' });
    channel.close();
    await Promise.allSettled(all);
  });
});

describe('before HELLO', () => {
  test.each([
    ['a wrong nonce', () => send(InitFrame.HELLO, undefined, JSON.stringify({ ...HELLO, nonce: 'f'.repeat(32) }))],
    ['no nonce', () => send(InitFrame.HELLO, undefined, JSON.stringify({ ...HELLO, nonce: '' }))],
    ['another runtime', () => send(InitFrame.HELLO, undefined, JSON.stringify({ ...HELLO, runtime: 'nodejs' }))],
    ['STARTED', () => send(InitFrame.STARTED, Buffer.alloc(2))],
    ['a stream', () => onStream(InitFrame.OPEN, 1)],
    ['a frame that is longer than any', () => peer.write(Buffer.from([0, 0, 0x40, 0x0a, InitFrame.HELLO, 0, 0, 0, 0]))],
    ['HTTP', () => peer.write('GET / HTTP/1.1\r\n\r\n')],
  ])('%s is a violation', async (_, act) => {
    act();
    await expect(channel.hello).rejects.toBeInstanceOf(ChannelClosed);
    expect(await closed).toBeDefined();
  });
});

describe('an init that has greeted', () => {
  test.each([
    ['greets again', () => send(InitFrame.HELLO, undefined, JSON.stringify(HELLO))],
    ['has started what nobody asked for', () => send(InitFrame.STARTED, Buffer.alloc(2))],
    ['opens a stream', () => onStream(InitFrame.OPEN, 1)],
    ['answers a PING that was never sent', () => send(InitFrame.PONG)],
    ['speaks the other protocol', () => send(0x06, undefined, '{}')],
  ])('and %s is cut off', async (_, act) => {
    await greet();
    act();
    expect(await closed).toBeDefined();
  });
});

describe('a running program’s init that', () => {
  test.each<[string, () => void]>([
    ['has started again', () => send(InitFrame.STARTED, Buffer.alloc(2))],
    ['opens a stream with an even id', () => onStream(InitFrame.OPEN, 2)],
    ['opens a stream with id 0', () => onStream(InitFrame.OPEN, 0)],
    ['opens a stream again', () => onStream(InitFrame.OPEN, 1)],
    ['opens a stream with more to say', () => onStream(InitFrame.OPEN, 3, 'x')],
    ['names a stream that never was', () => onStream(InitFrame.DATA, 3, 'x')],
    ['names a stream of ours that never was', () => onStream(InitFrame.DATA, 2, 'x')],
    ['names stream 0', () => onStream(InitFrame.END, 0)],
    ['names no stream', () => send(InitFrame.DATA, Buffer.from('x'))],
    ['sends DATA without data', () => onStream(InitFrame.DATA, 1)],
    ['sends DATA with meta', () => send(InitFrame.DATA, Buffer.concat([u32(1), Buffer.from('x')]), '{}')],
    [
      'sends END twice',
      () =>
        [1, 1].forEach((id) => {
          onStream(InitFrame.END, id);
        }),
    ],
    [
      'sends DATA after END',
      () => {
        onStream(InitFrame.END, 1);
        onStream(InitFrame.DATA, 1, 'x');
      },
    ],
    ['widens a window that is whole', () => onStream(InitFrame.WINDOW, 1, u32(1))],
    ['widens a window by nothing', () => onStream(InitFrame.WINDOW, 1, u32(0))],
    ['widens a window by half a number', () => onStream(InitFrame.WINDOW, 1, 'xx')],
    ['says that its own stream is open', () => onStream(InitFrame.OPENED, 1)],
    [
      'sends more than it may',
      () => {
        for (let i = 0; i < 5; i += 1) onStream(InitFrame.DATA, 1, Buffer.alloc(DATA_BYTES_MAX));
      },
    ],
    ['sends an unknown type', () => onStream(0x1f, 1)],
  ])('%s is cut off', async (_, act) => {
    await run();
    await accept();
    act();
    expect(await closed).toBeDefined();
  });

  test('speaks before the connection that was asked for is made is cut off', async () => {
    await run();
    const connecting = channel.connect(1, { wait: true });
    onStream(InitFrame.DATA, 2, 'x');
    await expect(connecting).rejects.toThrow();
    expect(await closed).toBeDefined();
  });
});

test('a flood of connections is slowed down', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
  try {
    await run();
    for (let id = 1; id < 10_000; id += 2) {
      onStream(InitFrame.OPEN, id);
      onStream(InitFrame.RESET, id);
      if (id % 100 === 1) await new Promise((resolve) => setImmediate(resolve));
    }
    // As 32 KiB each, they cost what may be read at once.
    expect(accepted.length).toBeGreaterThan(1_500);
    expect(accepted.length).toBeLessThan(2_200);
    await vi.advanceTimersByTimeAsync(10_000);
    await expect.poll(() => accepted.length).toBeGreaterThan(2_200);
  } finally {
    vi.useRealTimers();
  }
});
