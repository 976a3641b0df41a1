import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Fleet } from './fleet/fleet.js';

const WAIT = { timeout: 30_000, interval: 100 };

/** Ends when the file that its event names is there. */
const WAITS = `import { existsSync } from 'node:fs';
export const handler = async ({ until }) => {
  while (!existsSync(until)) await new Promise((resolve) => setTimeout(resolve, 20));
  return 'done';
};`;

const ECHOES = 'export const handler = async (event) => event;';

describe('concurrency limits of a fleet', () => {
  let fleet: Fleet;
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'lf-concurrency-'));
    // Sandboxes run as other users and look for a file there.
    await chmod(folder, 0o755);
    fleet = await Fleet.start({ driver: 'process', env: { LAMBDA_ACCOUNT_CONCURRENCY: '10' } });
  });
  afterAll(async () => {
    await fleet?.dispose();
    await rm(folder, { recursive: true, force: true });
  });

  const deploy = async (name: string, source: string): Promise<void> => {
    const place = join(folder, name);
    await mkdir(place, { recursive: true });
    await writeFile(join(place, 'index.mjs'), source);
    await writeFile(join(place, 'lambda.json'), JSON.stringify({ memoryMb: 64 }));
    const { code, stderr } = await fleet.cli(['deploy', place]);
    expect(code, stderr).toBe(0);
  };
  const limit = async (name: string, body: object) => {
    const answer = await fleet.api('PUT', `/api/functions/${name}/concurrency`, body);
    return { status: answer.status, ...answer.json<object>() };
  };
  const invoke = (name: string, body: unknown) => fleet.api('POST', `/api/functions/${name}/invocations`, body);
  const refusal = async (name: string) => {
    const { status, headers, json } = await invoke(name, {});
    const { error } = json<{ error?: { code: string; details?: { reason: string } } }>();
    return { status, reason: error?.details?.reason, retryAfter: Number(headers['retry-after']) > 0 };
  };

  it('throttles sync calls of a function that is switched off, and runs its async ones when it is on again', async () => {
    await deploy('switched', ECHOES);
    expect(await limit('switched', { reserved: 0 })).toEqual({ status: 200, reserved: 0, maximum: null });
    const off = { status: 429, reason: 'ReservedFunctionConcurrentInvocationLimitExceeded', retryAfter: true };
    await expect.poll(() => refusal('switched'), WAIT).toEqual(off);
    // Its code can be replaced all the same.
    await deploy('switched', `${ECHOES}//`);
    const queued = await fleet.api('POST', '/api/functions/switched/invocations?mode=async', { n: 1 });
    const { id } = queued.json<{ id: string }>();
    const execution = async () => (await fleet.api('GET', `/api/executions/${id}`)).json<Record<string, unknown>>();
    await expect
      .poll(execution, WAIT)
      .toMatchObject({ status: 'queued', attempts: 0, reason: expect.stringContaining('switches it off') });
    expect((await fleet.cli(['concurrency', 'switched', '--reserved', '1'])).code).toBe(0);
    await expect.poll(execution, WAIT).toMatchObject({ outcome: 'success', output: '{"n":1}' });
  });

  it('lets no more of a function run at once than its maximum', async () => {
    await deploy('waits', WAITS);
    expect(await limit('waits', { maximum: 1 })).toMatchObject({ status: 200, maximum: 1 });
    const until = join(folder, 'go');
    // Whichever is first holds the only place until the file is there.
    const calls = [invoke('waits', { until }), invoke('waits', { until })];
    const early = await Promise.race(calls);
    expect(early).toMatchObject({ status: 429 });
    expect(early.text).toContain('ReservedFunctionConcurrentInvocationLimitExceeded');
    await writeFile(until, '');
    expect((await Promise.all(calls)).map(({ status }) => status).sort()).toEqual([200, 429]);
  });

  it('keeps a part of the account unreserved and says how much is left', async () => {
    await deploy('greedy', ECHOES);
    const refused = await limit('greedy', { reserved: 10 });
    expect(refused).toMatchObject({ status: 409, error: { code: 'conflict', details: { left: 8 } } });
    const shown = (await fleet.api('GET', '/api/functions/greedy')).json<object>();
    expect(shown).toMatchObject({ reservedConcurrency: null, maximumConcurrency: null });
  });
});
