import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { buildInit, compileStatic, INIT_FLAGS, initFile, sourceFiles } from './build.mjs';
import {
  bytes,
  frame,
  InitPeer,
  idOf,
  initBody,
  NONCE,
  type Part,
  TRANSPORTS,
  Type,
  WINDOW_BYTES,
} from './init-peer.js';

/** Real programs on a machine that may be busy. */
vi.setConfig({ testTimeout: 60_000 });
let folder: string;
let peer: InitPeer;

beforeAll(() => {
  const impossible = buildInit();
  if (impossible !== undefined) throw new Error(`the static init cannot be tested: ${impossible}`);
  folder = mkdtempSync(join(tmpdir(), 'init-test-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));
afterEach(() => peer?.close());

const node = (source: string) => [process.execPath, '-e', source];
const shell = (script: string) => ['/bin/sh', '-c', script];
/** A program that connects to the Runtime API's port, then does what `source` says with the `socket`. */
const connects = (source: string) =>
  node(`const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(':');
    const socket = require('node:net').connect({ host, port: Number(port), allowHalfOpen: true });
    socket.on('error', (err) => console.log('broken:' + err.code));
    ${source}`);
const forever = shell('exec sleep 1000');
const u32 = (value: number) => ({ u32: value });

describe.each(TRANSPORTS)('over %s', (transport) => {
  test('greets with its nonce, and answers PING before and after INIT', async () => {
    peer = await InitPeer.start(transport);
    const hello = await peer.next(Type.HELLO);
    expect(JSON.parse(hello.meta)).toEqual({
      protocol: 1,
      nonce: NONCE,
      runtime: 'provided',
      version: '1',
      pid: peer.child.pid,
    });
    peer.send(Type.AGENT_PING);
    expect(await peer.next(Type.PONG)).toEqual({ type: Type.PONG, meta: '', body: Buffer.alloc(0) });
    await peer.run({ argv: forever });
    peer.send(Type.AGENT_PING);
    await peer.next(Type.PONG);
  });

  test('gives the program its arguments, directory and environment, no descriptor, and nothing of its own', async () => {
    peer = await InitPeer.start(transport);
    const report = `echo "$0 $1 in $(pwd)" >&2; env | sort >&2; ls /proc/self/fd | tr '\\n' ' ' >&2; cat`;
    const port = await peer.run({
      argv: ['/bin/sh', '-c', report, 'zero', 'one'],
      directory: '/usr',
      environment: ['A=1 =2', 'PATH=/usr/bin:/bin'],
    });
    // The listing of /proc/self/fd has the descriptor that it reads it with.
    expect((await peer.exited()).code).toBe(0);
    const lines = peer.stderr.split('\n').filter((line) => !/^(PWD|SHLVL|_|OLDPWD)=/.test(line));
    expect(lines).toEqual([
      'zero one in /usr',
      'A=1 =2',
      `AWS_LAMBDA_RUNTIME_API=127.0.0.1:${port}`,
      'PATH=/usr/bin:/bin',
      '0 1 2 3 ',
    ]);
  });

  test('carries a connection in both directions, half closes included', async () => {
    peer = await InitPeer.start(transport);
    await peer.run({
      argv: connects(`socket.end('question');
        let got = ''; socket.on('data', (d) => { got += d; }).on('end', () => { console.error('got:' + got); });`),
    });
    await peer.next(Type.OPEN, 1);
    await peer.next(Type.END, 1);
    expect(peer.data(1).toString()).toBe('question');
    peer.send(Type.AGENT_DATA, bytes(u32(1), 'ans'));
    peer.send(Type.AGENT_DATA, bytes(u32(1), 'wer'));
    peer.send(Type.AGENT_END, bytes(u32(1)));
    expect(await peer.exited()).toEqual({ code: 0, signal: null });
    expect(peer.stderr).toContain('got:answer\n');
  });

  test('exits with status 0 and takes the program along when the channel closes', async () => {
    peer = await InitPeer.start(transport);
    await peer.run({ argv: shell('echo pid:$$ >&2; exec sleep 1000') });
    await peer.until(() => /pid:\d+\n/.test(peer.stderr), 'the program');
    peer.hangUp();
    expect(await peer.exited()).toEqual({ code: 0, signal: null });
    const pid = /pid:(\d+)/.exec(peer.stderr)?.[1];
    await expect.poll(() => isDead(Number(pid))).toBe(true);
  });
});

test('lets the program speak on its own standard output, unless that is the channel', async () => {
  peer = await InitPeer.start('pipes');
  await peer.run({ argv: shell('echo out; echo err >&2; cat') });
  await peer.exited();
  expect([peer.stdout, peer.stderr]).toEqual(['out\n', 'err\n']);
  await peer.close();
  peer = await InitPeer.start('standard');
  await peer.run({ argv: shell('echo out; echo err >&2; cat') });
  await peer.exited();
  expect(peer.stderr).toBe('out\nerr\n');
});

describe('under credit', () => {
  const LENGTH = 10_000_000;
  const content = Buffer.alloc(LENGTH, 'abcdefghijk');
  const hash = createHash('sha256').update(content).digest('hex');

  test('a program that sends much is read as far as the agent allows, and no further', async () => {
    peer = await InitPeer.start();
    await peer.run({
      argv: connects(`socket.end(Buffer.alloc(${LENGTH}, 'abcdefghijk')); setInterval(() => {}, 1000);`),
    });
    await peer.until(() => peer.data(1).length >= WINDOW_BYTES, 'a window of data');
    // What was sent after a PING would have come before its PONG.
    peer.send(Type.AGENT_PING);
    await peer.next(Type.PONG);
    const received: Buffer[] = [];
    let total = 0;
    const take = () => {
      for (const got of peer.frames.splice(0)) {
        if (got.type !== Type.DATA) continue;
        received.push(got.body.subarray(4));
        total += got.body.length - 4;
      }
    };
    take();
    expect(total).toBe(WINDOW_BYTES);
    while (total < LENGTH) {
      const before = total;
      peer.send(Type.AGENT_WINDOW, bytes(u32(1), u32(Math.min(WINDOW_BYTES, LENGTH - before))));
      await peer.until(() => peer.frames.length > 0, 'more');
      while (total < Math.min(LENGTH, before + WINDOW_BYTES)) {
        take();
        if (total < Math.min(LENGTH, before + WINDOW_BYTES)) await peer.until(() => peer.frames.length > 0, 'the rest');
      }
      expect(total).toBe(Math.min(LENGTH, before + WINDOW_BYTES));
    }
    expect(createHash('sha256').update(Buffer.concat(received)).digest('hex')).toBe(hash);
  });

  test('a program that reads late gets everything, and the agent is told when it may send more', async () => {
    peer = await InitPeer.start();
    await peer.run({
      argv: connects(`socket.pause();
        const hash = require('node:crypto').createHash('sha256');
        process.on('SIGUSR1', () => socket.resume());
        socket.on('data', (d) => hash.update(d)).on('end', () => { console.log(hash.digest('hex')); socket.end(); });
        socket.on('connect', () => console.log('connected'));
        const awake = setInterval(() => {}, 1000); socket.on('end', () => clearInterval(awake));`),
    });
    await peer.next(Type.OPEN, 1);
    await peer.until(() => peer.stdout.includes('connected'), 'the connection');
    let credit = WINDOW_BYTES;
    let sent = 0;
    let stuck = false;
    while (sent < LENGTH) {
      while (credit > 0 && sent < LENGTH) {
        const size = Math.min(16_384, credit, LENGTH - sent);
        peer.send(Type.AGENT_DATA, bytes(u32(1), content.subarray(sent, sent + size)));
        sent += size;
        credit -= size;
      }
      if (sent === LENGTH) break;
      if (!stuck) {
        // After the PONG no WINDOW comes any more once the kernel's buffers are full.
        peer.send(Type.AGENT_PING);
        await peer.next(Type.PONG);
        stuck = !peer.frames.some(({ type }) => type === Type.WINDOW);
        if (stuck) peer.child.kill('SIGUSR1');
        if (stuck) continue;
      }
      const { body } = await peer.next(Type.WINDOW, 1);
      credit += body.readUInt32BE(4);
      expect(credit).toBeLessThanOrEqual(WINDOW_BYTES);
    }
    expect(stuck).toBe(true);
    peer.send(Type.AGENT_END, bytes(u32(1)));
    expect((await peer.exited()).code).toBe(0);
    expect(peer.stdout).toContain(hash);
  });

  test('a stream that nobody reads does not hold up another, nor PING', async () => {
    peer = await InitPeer.start();
    await peer.run({
      argv: connects(`socket.write(Buffer.alloc(9_000_000)); socket.once('connect', () => {
        require('node:net').connect({ host, port: Number(port) }).end('second'); });`),
    });
    await peer.next(Type.OPEN, 3);
    await peer.next(Type.END, 3);
    expect(peer.data(3).toString()).toBe('second');
    peer.send(Type.AGENT_PING);
    await peer.next(Type.PONG);
  });
});

describe('connections', () => {
  test('past 64 wait until one is over', async () => {
    peer = await InitPeer.start();
    await peer.run({
      argv: connects(`const net = require('node:net');
        for (let i = 0; i < 99; i += 1) net.connect({ host, port: Number(port) }).on('error', () => {});`),
    });
    const opened = () => peer.frames.filter(({ type }) => type === Type.OPEN).length;
    await peer.until(() => opened() >= 64, '64 connections');
    peer.send(Type.AGENT_PING);
    await peer.next(Type.PONG);
    expect(opened()).toBe(64);
    for (let id = 1; id < 50; id += 2) peer.send(Type.AGENT_RESET, bytes(u32(id)));
    await peer.until(() => opened() === 89, '25 more');
    expect(peer.frames.filter(({ type }) => type === Type.OPEN).map(idOf)).toEqual(
      Array.from({ length: 89 }, (_, at) => 2 * at + 1),
    );
  });

  test('leave nothing behind when they are over: thousands come one after another', async () => {
    peer = await InitPeer.start();
    await peer.run({
      argv: node(`const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(':');
        let left = 3000;
        const next = () => {
          if (left-- === 0) { console.log('all answered'); return; }
          let got = '';
          const socket = require('node:net').connect({ host, port: Number(port) }, () => socket.end('q'));
          socket.on('data', (d) => { got += d; }).on('close', () => { if (got !== 'a') throw new Error(got); next(); });
        };
        next();`),
    });
    let id = 1;
    for (; id < 6000; id += 2) {
      await peer.next(Type.END, id);
      peer.frames.length = 0;
      peer.send(Type.AGENT_DATA, bytes(u32(id), 'a'));
      peer.send(Type.AGENT_END, bytes(u32(id)));
    }
    expect(await peer.exited()).toEqual({ code: 0, signal: null });
    expect(peer.stdout).toBe('all answered\n');
  });

  test('that the program breaks are RESET, and frames that cross it are ignored', async () => {
    peer = await InitPeer.start();
    await peer.run({
      argv: connects(`socket.on('data', () => socket.resetAndDestroy()); setInterval(() => {}, 1000);`),
    });
    await peer.next(Type.OPEN, 1);
    peer.send(Type.AGENT_DATA, bytes(u32(1), 'x'));
    await peer.next(Type.RESET, 1);
    peer.send(Type.AGENT_DATA, bytes(u32(1), 'y'));
    peer.send(Type.AGENT_WINDOW, bytes(u32(1), u32(5)));
    peer.send(Type.AGENT_END, bytes(u32(1)));
    peer.send(Type.AGENT_RESET, bytes(u32(1)));
    peer.send(Type.AGENT_PING);
    await peer.next(Type.PONG);
  });

  test('that the agent resets end for the program', async () => {
    peer = await InitPeer.start();
    await peer.run({ argv: connects(`socket.on('end', () => console.log('closed')); socket.resume();`) });
    await peer.next(Type.OPEN, 1);
    peer.send(Type.AGENT_RESET, bytes(u32(1)));
    await peer.until(() => peer.stdout.includes('closed'), 'the end');
  });
});

describe('the agent connects to the program', () => {
  const serves = (host: string) =>
    node(`require('node:net').createServer((s) => s.on('data', (d) => s.end('echo ' + d)))
      .listen(0, '${host}', function () { console.log('port:' + this.address().port); });`);
  async function portOf(argv: readonly string[]): Promise<number> {
    peer = await InitPeer.start();
    expect(await peer.run({ port: 0, argv })).toBe(0);
    await peer.until(() => /port:\d+\n/.test(peer.stdout), 'the port');
    return Number(/port:(\d+)/.exec(peer.stdout)?.[1]);
  }
  const open = (id: number, port: number, wait: 0 | 1) =>
    peer.send(Type.AGENT_OPEN, bytes(u32(id), { u16: port }, { u8: wait }));

  test.each(['127.0.0.1', '::1'])('on %s', async (host) => {
    const port = await portOf(serves(host));
    open(2, port, 0);
    await peer.next(Type.OPENED, 2);
    peer.send(Type.AGENT_DATA, bytes(u32(2), 'hello'));
    await peer.next(Type.END, 2);
    expect(peer.data(2).toString()).toBe('echo hello');
    peer.send(Type.AGENT_END, bytes(u32(2)));
  });

  test('and waits until it listens, or is refused when it does not wait', async () => {
    const late = await portOf(serves('127.0.0.1'));
    await peer.close();
    peer = await InitPeer.start();
    await peer.run({
      port: 0,
      argv: node(`process.on('SIGUSR1', () => require('node:net').createServer((s) => s.end('here')).listen(${late}, '127.0.0.1'));
        setInterval(() => {}, 1000); console.log('up');`),
    });
    await peer.until(() => peer.stdout.includes('up'), 'the program');
    open(2, late, 1);
    open(4, late, 0);
    await peer.next(Type.RESET, 4);
    // Given up by the agent while it waits.
    open(6, late, 1);
    peer.send(Type.AGENT_RESET, bytes(u32(6)));
    expect(peer.frames.some(({ type }) => type === Type.OPENED)).toBe(false);
    peer.child.kill('SIGUSR1');
    await peer.next(Type.OPENED, 2);
    await peer.next(Type.END, 2);
    expect(peer.data(2).toString()).toBe('here');
    expect(peer.frames.some((got) => idOf(got) === 6)).toBe(false);
  });

  test('64 times at once; the next is refused', async () => {
    const port = await portOf(serves('127.0.0.1'));
    for (let id = 2; id <= 130; id += 2) open(id, port, 0);
    await peer.next(Type.RESET, 130);
    await peer.until(() => peer.frames.filter(({ type }) => type === Type.OPENED).length === 64, '64 connections');
  });
});

describe('the program', () => {
  const file = (name: string, text: string, mode: number) => {
    const path = join(folder, name);
    writeFileSync(path, text);
    chmodSync(path, mode);
    return path;
  };

  test.each([
    ['is missing', () => ({ argv: [join(folder, 'missing')] }), 3, 2],
    ['is nowhere in the PATH', () => ({ argv: ['missing'], environment: ['PATH=/bin:/usr/bin'] }), 3, 2],
    ['may not be run', () => ({ argv: [file('plain', '#!/bin/sh\n', 0o644)] }), 4, 13],
    ['is a folder', () => ({ argv: [folder] }), 4, 13],
    ['is no program', () => ({ argv: [file('text', 'no program\n', 0o755)] }), 4, 8],
    ['wants an interpreter that is missing', () => ({ argv: [file('script', '#!/no/such/shell\n', 0o755)] }), 4, 2],
    ['has no directory', () => ({ argv: forever, directory: join(folder, 'missing') }), 2, 2],
  ])('that %s is NOT_STARTED, and the init waits for the agent', async (_, program, step, errno) => {
    peer = await InitPeer.start();
    peer.send(Type.AGENT_INIT, initBody(program()));
    expect((await peer.next(Type.NOT_STARTED)).body).toEqual(bytes({ u8: step }, u32(errno)));
    peer.send(Type.AGENT_PING);
    await peer.next(Type.PONG);
    peer.hangUp();
    expect((await peer.exited()).code).toBe(0);
  });

  test('is found in the PATH of its own environment', async () => {
    file('only-here', '#!/bin/sh\necho found', 0o755);
    peer = await InitPeer.start();
    await peer.run({ argv: ['only-here'], environment: [`PATH=/nowhere:${folder}`] });
    await peer.exited();
    expect(peer.stdout).toBe('found\n');
  });

  test.each([
    ['exit 7', { code: 7, signal: null }],
    ['exit 0', { code: 0, signal: null }],
    ['kill -KILL $$', { code: null, signal: 'SIGKILL' }],
    ['kill -SEGV $$', { code: null, signal: 'SIGSEGV' }],
    ['kill -TERM $$', { code: null, signal: 'SIGTERM' }],
  ])('that ends with %s ends the init in the same way', async (script, end) => {
    peer = await InitPeer.start();
    await peer.run({ argv: shell(script) });
    expect(await peer.exited()).toEqual(end);
  });

  test('that ends right after it sent something has sent it', async () => {
    peer = await InitPeer.start();
    await peer.run({
      argv: connects(`socket.on('connect', () => require('node:fs').writeSync(socket._handle.fd, 'last words'));
      socket.on('connect', () => process.exit(3));`),
    });
    expect((await peer.exited()).code).toBe(3);
    expect(peer.data(1).toString()).toBe('last words');
  });

  test('gets the signals that the init gets', async () => {
    peer = await InitPeer.start();
    await peer.run({
      argv: node(`for (const name of ['SIGTERM', 'SIGHUP', 'SIGUSR2']) process.on(name, () => console.log(name));
      setInterval(() => {}, 1000); console.log('up');`),
    });
    await peer.until(() => peer.stdout.includes('up'), 'the program');
    for (const name of ['SIGTERM', 'SIGHUP', 'SIGUSR2'] as const) {
      peer.child.kill(name);
      await peer.until(() => peer.stdout.includes(name), name);
    }
  });

  test('leaves children that are reaped', async () => {
    peer = await InitPeer.start();
    await peer.run({ argv: shell('(sh -c "echo child:\\$\\$; exit 1" &) ; exec sleep 1000') });
    await peer.until(() => /child:\d+\n/.test(peer.stdout), 'the child');
    const child = Number(/child:(\d+)/.exec(peer.stdout)?.[1]);
    await expect.poll(() => stateOf(child), { timeout: 10_000 }).toBe('gone');
    expect(childrenOf(peer.child.pid ?? 0)).toHaveLength(1);
  });

  test('dies with the init, even when that is killed', async () => {
    peer = await InitPeer.start();
    await peer.run({ argv: shell('echo pid:$$; exec sleep 1000') });
    await peer.until(() => /pid:\d+\n/.test(peer.stdout), 'the program');
    peer.child.kill('SIGKILL');
    const pid = Number(/pid:(\d+)/.exec(peer.stdout)?.[1]);
    await expect.poll(() => isDead(pid), { timeout: 10_000 }).toBe(true);
  });

  test('gets another port when that of the Runtime API is taken', async () => {
    const other = await InitPeer.start();
    try {
      const first = await other.run({ argv: forever });
      peer = await InitPeer.start();
      const second = await peer.run({ port: first, argv: shell('echo $AWS_LAMBDA_RUNTIME_API; exec sleep 1000') });
      expect(second).not.toBe(first);
      await peer.until(() => peer.stdout === `127.0.0.1:${second}\n`, 'its address');
    } finally {
      await other.close();
    }
  });
});

test('a signal before there is a program ends it', async () => {
  peer = await InitPeer.start();
  await peer.next(Type.HELLO);
  peer.child.kill('SIGTERM');
  expect((await peer.exited()).code).toBe(143);
});

describe('silence of the agent', () => {
  let fast: string;
  beforeAll(() => {
    fast = join(folder, 'fast-init');
    compileStatic(sourceFiles(), fast, [...INIT_FLAGS, '-DTICK_MS=20']);
  });

  test('of 30 ticks ends it with status 0', async () => {
    peer = await InitPeer.start('socket', fast);
    await peer.run({ argv: forever });
    expect(await peer.exited()).toEqual({ code: 0, signal: null });
  });

  test('does not count while it is frozen', async () => {
    peer = await InitPeer.start('socket', fast);
    await peer.run({ argv: forever });
    peer.child.kill('SIGSTOP');
    await expect.poll(() => stateOf(peer.child.pid ?? 0)).toBe('T');
    // Twice what it would wait.
    await new Promise((resolve) => setTimeout(resolve, 1_200));
    peer.child.kill('SIGCONT');
    peer.send(Type.AGENT_PING);
    await peer.next(Type.PONG);
  });
});

describe('a broken agent', () => {
  const started = async () => {
    await peer.run({ argv: connects('setInterval(() => {}, 1000);') });
    await peer.next(Type.OPEN, 1);
  };
  const length = (value: number, type: number, meta = 0) => bytes(u32(value), { u8: type }, u32(meta));
  const body = (type: number, ...parts: readonly Part[]) => frame(type, bytes(...parts));

  test.each<[string, Buffer]>([
    ['an INIT without an end', frame(Type.AGENT_INIT, Buffer.from('0'))],
    ['an empty INIT', frame(Type.AGENT_INIT)],
    ['an INIT without a program', frame(Type.AGENT_INIT, Buffer.from('0\0\x000\0'))],
    ['an INIT with fewer arguments than it says', frame(Type.AGENT_INIT, Buffer.from('0\0\x009\0/bin/true\0'))],
    ['an INIT with a port that is none', frame(Type.AGENT_INIT, Buffer.from('99999\0\x001\0/bin/true\0'))],
    ['an INIT with a negative number', frame(Type.AGENT_INIT, Buffer.from('0\0\0-1\0/bin/true\0'))],
    [
      'an INIT with too many variables',
      frame(Type.AGENT_INIT, initBody({ argv: forever, environment: Array(5000).fill('A=') })),
    ],
    ['an INIT that is too long', length(320 * 1024 + 1, Type.AGENT_INIT)],
    ['an INIT whose meta is longer than itself', length(100, Type.AGENT_INIT, 96)],
    ['a stream before INIT', body(Type.AGENT_OPEN, u32(2), { u16: 80 }, { u8: 0 })],
    ['a frame of four billion bytes', length(0xffff_ffff, Type.AGENT_PING)],
    ['a frame of no length', length(0, Type.AGENT_PING)],
    ['a PING with meta', frame(Type.AGENT_PING, new Uint8Array(), '{}')],
    ['a PING with a body', frame(Type.AGENT_PING, Buffer.from('x'))],
    ['a type that only the init sends', frame(Type.HELLO)],
    ['an unknown type', frame(0xff)],
    ['HTTP', Buffer.from('GET / HTTP/1.1\r\nhost: x\r\n\r\n')],
  ])('that sends %s ends it with status 1 and a reason', async (_, raw) => {
    peer = await InitPeer.start();
    await peer.next(Type.HELLO);
    peer.sendBytes(raw);
    expect((await peer.exited()).code).toBe(1);
    expect(peer.stderr).toMatch(/^lambda init: the agent .*\n$/);
  });

  test.each<[string, Buffer]>([
    ['INIT again', frame(Type.AGENT_INIT, initBody({ argv: forever }))],
    ['DATA for a stream that never was', body(Type.AGENT_DATA, u32(3), 'x')],
    ['DATA for stream 0', body(Type.AGENT_DATA, u32(0), 'x')],
    ['DATA without a stream', body(Type.AGENT_DATA, 'x')],
    ['DATA without data', body(Type.AGENT_DATA, u32(1))],
    ['DATA that is too long', body(Type.AGENT_DATA, u32(1), Buffer.alloc(16_385))],
    ['DATA after END', Buffer.concat([body(Type.AGENT_END, u32(1)), body(Type.AGENT_DATA, u32(1), 'x')])],
    ['END twice', Buffer.concat([body(Type.AGENT_END, u32(1)), body(Type.AGENT_END, u32(1))])],
    ['END with a body', body(Type.AGENT_END, u32(1), 'x')],
    ['a WINDOW over the limit', body(Type.AGENT_WINDOW, u32(1), u32(1))],
    ['a WINDOW of nothing', body(Type.AGENT_WINDOW, u32(1), u32(0))],
    ['a WINDOW without a number', body(Type.AGENT_WINDOW, u32(1))],
    ['an odd id', body(Type.AGENT_OPEN, u32(5), { u16: 80 }, { u8: 0 })],
    ['id 0', body(Type.AGENT_OPEN, u32(0), { u16: 80 }, { u8: 0 })],
    ['an id again', Buffer.concat([2, 2].map((id) => body(Type.AGENT_OPEN, u32(id), { u16: 1 }, { u8: 0 })))],
    ['a malformed OPEN', body(Type.AGENT_OPEN, u32(2), { u16: 80 })],
    ['an OPEN that waits in an unknown way', body(Type.AGENT_OPEN, u32(2), { u16: 80 }, { u8: 2 })],
  ])('that sends %s to a running program ends it with status 1 and a reason', async (_, raw) => {
    peer = await InitPeer.start();
    await started();
    peer.sendBytes(raw);
    expect((await peer.exited()).code).toBe(1);
    expect(peer.stderr).toMatch(/^lambda init: the agent .*\n$/);
  });

  test('that sends more than the window to a program that does not read ends it', async () => {
    peer = await InitPeer.start();
    await peer.run({ argv: connects('socket.pause(); setInterval(() => {}, 1000);') });
    await peer.next(Type.OPEN, 1);
    // The kernel's buffers take the first megabytes; nothing here waits for WINDOW.
    for (let sent = 0; sent < 2_000; sent += 1) peer.send(Type.AGENT_DATA, bytes(u32(1), Buffer.alloc(16_384)));
    expect((await peer.exited()).code).toBe(1);
    expect(peer.stderr).toContain('more DATA than it may');
  });

  test('that sends half frames, byte by byte, is understood', async () => {
    peer = await InitPeer.start();
    const all = Buffer.concat([
      frame(Type.AGENT_PING),
      frame(Type.AGENT_INIT, initBody({ argv: shell('echo ran; cat') }), '{"a":1}'),
    ]);
    for (const byte of all) {
      peer.sendBytes(Buffer.from([byte]));
      await new Promise((resolve) => setImmediate(resolve));
    }
    await peer.next(Type.PONG);
    expect((await peer.exited()).code).toBe(0);
    expect(peer.stdout).toBe('ran\n');
  });

  test('that sends noise never crashes it', async () => {
    // Deterministic noise: frames that are nearly right.
    let seed = 12_345;
    const random = (below: number) => {
      seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648;
      return Math.floor((seed / 2_147_483_648) * below);
    };
    const types = [
      Type.AGENT_OPEN,
      Type.AGENT_DATA,
      Type.AGENT_END,
      Type.AGENT_RESET,
      Type.AGENT_WINDOW,
      Type.AGENT_PING,
    ];
    for (let round = 0; round < 40; round += 1) {
      peer = await InitPeer.start();
      await started();
      for (let i = 0; i < 30; i += 1) {
        const type = types[random(types.length)] ?? Type.AGENT_PING;
        const raw = frame(type, bytes(u32(random(6)), Buffer.alloc(random(9), random(256))));
        if (random(4) === 0) raw[random(raw.length)] = random(256);
        peer.sendBytes(raw);
      }
      peer.hangUp();
      const end = await peer.exited();
      expect([end.signal, end.code === 0 || end.code === 1]).toEqual([null, true]);
      await peer.close();
    }
  });
});

test.each([
  ['no channel', {}],
  ['no nonce', { LAMBDA_CHANNEL: 'fd:3,4' }],
  ['a nonce that is none', { LAMBDA_CHANNEL: 'fd:3,4', LAMBDA_NONCE: 'x'.repeat(32) }],
  ['a socket that is not there', { LAMBDA_CHANNEL: '/no/such.sock', LAMBDA_NONCE: NONCE }],
  ['a path that is too long', { LAMBDA_CHANNEL: 'x'.repeat(200), LAMBDA_NONCE: NONCE }],
  ['descriptors that are not open', { LAMBDA_CHANNEL: 'fd:77,78', LAMBDA_NONCE: NONCE }],
  ['half a descriptor', { LAMBDA_CHANNEL: 'fd:0', LAMBDA_NONCE: NONCE }],
  ['its standard error as the channel', { LAMBDA_CHANNEL: 'fd:0,2', LAMBDA_NONCE: NONCE }],
])('with %s it ends with status 1 and one line', (_, env) => {
  const ended = spawnSync(initFile(), { env, encoding: 'utf8' });
  expect(ended.status).toBe(1);
  expect(ended.stderr).toMatch(/^lambda init: .*\n$/);
});

/** `R`, `S`, `Z`, `T`… as the kernel has it, or `gone`. */
function stateOf(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat[stat.lastIndexOf(')') + 2] ?? '';
  } catch {
    return 'gone';
  }
}

/** A zombie is dead, and somebody else's to reap. */
function isDead(pid: number): boolean {
  return ['gone', 'Z'].includes(stateOf(pid));
}

function childrenOf(parent: number): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
        return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1] === String(parent);
      } catch {
        return false;
      }
    });
}
