import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Fleet } from './fleet/fleet.js';

const run = promisify(execFile);

const WAIT = { timeout: 30_000, interval: 50 };

describe('a fleet whose ledger is in Redis', () => {
  let fleet: Fleet;
  let folder: string;
  let socket: string;
  let redis: ChildProcess;
  const startRedis = async (): Promise<void> => {
    await rm(socket, { force: true });
    const settings = ['--port', '0', '--unixsocket', socket, '--dir', folder, '--save', ''];
    redis = spawn('redis-server', settings, { stdio: 'ignore' });
    await once(redis, 'spawn');
  };
  const killRedis = async (): Promise<void> => {
    if (redis === undefined || redis.exitCode !== null || redis.signalCode !== null) return;
    redis.kill('SIGKILL');
    await once(redis, 'exit');
  };
  /** How often the control plane has joined that Redis; undefined while it has not. */
  const epoch = async (): Promise<number | undefined> => {
    const ask = async (...args: string[]) => (await run('redis-cli', ['-s', socket, '--raw', ...args])).stdout.trim();
    const [lease] = (await ask('keys', 'lambda:lease:*')).split('\n');
    return lease ? Number(await ask('get', lease)) : undefined;
  };
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'lf-shared-'));
    socket = join(folder, 'redis.sock');
    await startRedis();
    fleet = await Fleet.start({ driver: 'process', env: { REDIS_URL: `unix://${socket}` } });
    const place = join(folder, 'echo');
    await mkdir(place);
    await writeFile(join(place, 'index.mjs'), 'export const handler = async (event) => event;');
    const { code, stderr } = await fleet.cli(['deploy', place]);
    expect(code, stderr).toBe(0);
  });
  afterAll(async () => {
    await fleet?.dispose();
    await killRedis();
    await rm(folder, { recursive: true, force: true });
  });

  const call = async (n: number): Promise<unknown> => {
    const { status, text } = await fleet.api('POST', '/api/functions/echo/invocations', { n });
    return { status, text };
  };
  const calls = (from: number): Promise<unknown[]> =>
    Promise.all(Array.from({ length: 5 }, (_, at) => call(from + at)));
  const answers = (from: number) => Array.from({ length: 5 }, (_, at) => ({ status: 200, text: `{"n":${from + at}}` }));

  it('places with Redis, without it while it is frozen or gone, and with it again', async () => {
    await expect.poll(epoch, WAIT).toBe(1);
    expect(await calls(0)).toEqual(answers(0));
    redis.kill('SIGSTOP');
    expect(await calls(10)).toEqual(answers(10));
    redis.kill('SIGCONT');
    await expect.poll(epoch, WAIT).toBeGreaterThan(1);
    expect(await calls(20)).toEqual(answers(20));
    await killRedis();
    expect(await calls(30)).toEqual(answers(30));
    await startRedis();
    await expect.poll(() => epoch().catch(() => undefined), WAIT).toBeGreaterThan(2);
    expect(await calls(40)).toEqual(answers(40));
  });
});
