import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ClusterRedis } from './cluster/cluster-redis.js';
import { Fleet } from './fleet/fleet.js';

const WAIT = { timeout: 30_000, interval: 50 };

describe('a fleet whose ledger is in Redis', () => {
  let fleet: Fleet;
  let folder: string;
  let redis: ClusterRedis;
  /** How often the control plane has joined that Redis; undefined while it has not. */
  const epoch = async (): Promise<number | undefined> => {
    const [lease] = (await redis.ask('keys', 'lambda:lease:*')).split('\n');
    return lease ? Number(await redis.ask('get', lease)) : undefined;
  };
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'lf-shared-'));
    redis = new ClusterRedis(join(folder, 'redis.sock'));
    await redis.start();
    fleet = await Fleet.start({ driver: 'process', env: { REDIS_URL: redis.url } });
    const place = join(folder, 'echo');
    await mkdir(place);
    await writeFile(join(place, 'index.mjs'), 'export const handler = async (event) => event;');
    const { code, stderr } = await fleet.cli(['deploy', place]);
    expect(code, stderr).toBe(0);
  });
  afterAll(async () => {
    await fleet?.dispose();
    await redis?.stop('SIGKILL');
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
    redis.pause();
    expect(await calls(10)).toEqual(answers(10));
    redis.resume();
    await expect.poll(epoch, WAIT).toBeGreaterThan(1);
    expect(await calls(20)).toEqual(answers(20));
    await redis.stop('SIGKILL');
    expect(await calls(30)).toEqual(answers(30));
    await redis.start();
    await expect.poll(() => epoch().catch(() => undefined), WAIT).toBeGreaterThan(2);
    expect(await calls(40)).toEqual(answers(40));
  });
});
