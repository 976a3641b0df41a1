import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { Secret } from '@lambda-fleet/common/secret';
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { RedisConnection, redisScript } from './redis-connection.js';
import { startTestRedis, type TestRedis } from './test-redis.js';

const WAIT = { timeout: 30_000, interval: 20 };
const log = pino({ level: 'silent' });
const ECHO = redisScript('return ARGV[1]');
const FAILS = redisScript("return redis.error_reply('no')");

describe('RedisConnection', () => {
  let redis: TestRedis;
  const closing: (() => unknown)[] = [];
  beforeAll(async () => {
    redis = await startTestRedis();
  });
  afterEach(async () => {
    for (const close of closing.splice(0).reverse()) await close();
  });
  afterAll(() => redis?.close());

  const connect = (url: Secret) => {
    const seen = { up: 0, down: [] as string[] };
    const connection = new RedisConnection({
      ...{ url, log, scripts: [ECHO, FAILS] },
      onUp: () => (seen.up += 1),
      onDown: (reason) => seen.down.push(reason),
    });
    closing.push(() => connection.close());
    return { connection, seen };
  };
  /** Something that listens and does this with whoever connects. */
  const listen = async (behave: (socket: Socket) => void): Promise<{ url: Secret; connections: () => number }> => {
    let connections = 0;
    const sockets = new Set<Socket>();
    const server: Server = createServer((socket) => {
      connections += 1;
      sockets.add(socket);
      socket.on('error', () => undefined);
      behave(socket);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    closing.push(async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    });
    const { port } = server.address() as AddressInfo;
    return { url: new Secret(`redis://127.0.0.1:${port}`), connections: () => connections };
  };

  it('runs scripts, and refuses calls while there is no connection', async () => {
    const { connection, seen } = connect(redis.url);
    await expect(connection.call(ECHO, ['early'], 30_000)).rejects.toThrow('no connection');
    await expect.poll(() => seen.up, WAIT).toBe(1);
    expect(await connection.call(ECHO, ['hello'], 30_000)).toBe('hello');
    connection.close();
    await expect(connection.call(ECHO, ['late'], 30_000)).rejects.toThrow('no connection');
  });

  it('fails every call behind one that is late, and connects again', async () => {
    const { connection, seen } = connect(redis.url);
    await expect.poll(() => seen.up, WAIT).toBe(1);
    await redis.freeze(async () => {
      const calls = [connection.call(ECHO, ['1'], 50), connection.call(ECHO, ['2'], 600_000)];
      const ends = await Promise.allSettled(calls);
      expect(ends.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
      expect(seen.down).toEqual(['Redis has not answered in time']);
    });
    await expect.poll(() => seen.up, WAIT).toBe(2);
    expect(await connection.call(ECHO, ['again'], 30_000)).toBe('again');
  });

  it('takes an error of one call for one of all, and knows its scripts again after a restart', async () => {
    const { connection, seen } = connect(redis.url);
    await expect.poll(() => seen.up, WAIT).toBe(1);
    const calls = [connection.call(FAILS, [], 30_000), connection.call(ECHO, ['1'], 30_000)];
    expect((await Promise.allSettled(calls)).map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    await expect.poll(() => seen.up, WAIT).toBe(2);
    await redis.restart(async () => {
      await expect.poll(() => seen.down.length, WAIT).toBe(2);
    });
    await expect.poll(() => seen.up, WAIT).toBe(3);
    expect(await connection.call(ECHO, ['again'], 30_000)).toBe('again');
  });

  it.each([
    ['says nothing', () => undefined],
    ['is no Redis', (socket: Socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n')],
    ['hangs up', (socket: Socket) => socket.destroy()],
    [
      'asks for a password',
      (socket: Socket) => void socket.on('data', () => socket.write('-NOAUTH no\r\n-NOAUTH no\r\n')),
    ],
  ])('goes on trying a server that %s, and is never up', async (_what, behave) => {
    const server = await listen(behave);
    const { connection, seen } = connect(server.url);
    await expect.poll(server.connections, WAIT).toBeGreaterThan(2);
    expect(seen).toEqual({ up: 0, down: [] });
    await expect(connection.call(ECHO, [], 30_000)).rejects.toThrow('no connection');
  });
});
