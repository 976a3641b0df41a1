import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { ApiKeys } from '../auth/api-keys.js';
import { startTestControlPlane, type TestControlPlane } from './test-control-plane.js';

type Body = Record<string, unknown>;

const MB = 1024 * 1024;

describe('the schedules API', () => {
  let plane: TestControlPlane;
  let strangerKey = '';
  beforeAll(async () => {
    plane = await startTestControlPlane();
    const { database } = plane.postgres;
    await database.run('add project', (sql) => sql`insert into projects (project_id) values ('stranger')`);
    strangerKey = await new ApiKeys(database).create('stranger', 'test');
    const code = { source: 'export const handler = async () => 1;' };
    expect((await plane.call('POST', '/api/functions', { name: 'report', code })).status).toBe(201);
  });
  afterAll(() => plane.close());
  afterEach(async () => {
    await plane.postgres.database.run(
      'empty',
      (sql) => sql`truncate schedules, schedule_ticks, async_invocations, lanes`,
    );
  });

  const create = (body: Body = {}) =>
    plane.call('POST', '/api/schedules', { function: 'report', expression: '0 12 * * *', ...body });
  const stored = async (): Promise<unknown[]> =>
    (await plane.call('GET', '/api/schedules')).body.schedules as unknown[];

  it('creates, shows, lists, changes and deletes a schedule', async () => {
    const created = await create({ expression: ' 0 12  * * * ', timeZone: 'Asia/Tokyo', payload: { a: [1] } });
    expect(created).toMatchObject({
      status: 201,
      body: {
        ...{ name: 'report', functionName: 'report', expression: '0 12 * * *', timeZone: 'Asia/Tokyo', enabled: true },
        ...{
          overlap: 'skip',
          catchUpMs: 60_000,
          jitterMs: 0,
          payload: { a: [1] },
          payloadBytes: 9,
          waitingTickAt: null,
        },
      },
    });
    const runs = created.body.nextRuns as string[];
    expect(runs).toHaveLength(5);
    expect(runs.every((run) => run.endsWith('T03:00:00.000Z'))).toBe(true);
    expect(created.body.nextTickAt).toBe(runs[0]);
    expect(created.body).not.toHaveProperty('revision');

    const { id } = created.body;
    expect(await plane.call('GET', `/api/schedules/${id}`)).toEqual({ status: 200, body: created.body });
    expect(await plane.call('GET', '/api/schedules/report')).toEqual({ status: 200, body: created.body });
    const { payload: _p, nextRuns: _n, ...summary } = created.body;
    expect(await stored()).toEqual([summary]);

    const change = { expression: 'rate(1 hour)', overlap: 'allow', catchUpMs: 0, jitterMs: 5, payload: null };
    const changed = await plane.call('PATCH', '/api/schedules/report', change);
    expect(changed).toMatchObject({ status: 200, body: { id, ...change, timeZone: 'Asia/Tokyo', payloadBytes: 0 } });
    expect(Date.parse(String(changed.body.nextTickAt))).toBeGreaterThan(Date.now() + 3_500_000);

    expect((await plane.call('DELETE', `/api/schedules/${id}`)).status).toBe(204);
    expect((await plane.call('GET', '/api/schedules/report')).body).toMatchObject({
      error: { code: 'schedule_not_found' },
    });
    expect((await plane.call('DELETE', '/api/schedules/report')).status).toBe(404);
  });

  it('lists by name, of one function, and page by page', async () => {
    for (const name of ['c', 'a', 'B']) expect((await create({ name })).status).toBe(201);
    const first = await plane.call('GET', '/api/schedules?limit=2&function=report');
    const second = await plane.call('GET', `/api/schedules?limit=2&cursor=${first.body.nextCursor}`);
    const names = [first, second].flatMap(({ body }) => (body.schedules as Body[]).map(({ name }) => name));
    expect(names).toEqual(['B', 'a', 'c']);
    expect(second.body.nextCursor).toBeNull();
    expect((await plane.call('GET', '/api/schedules?function=other')).body.schedules).toEqual([]);
  });

  it('pauses and resumes; what was due meanwhile is not made up for', async () => {
    await create();
    const paused = await plane.call('POST', '/api/schedules/report/pause');
    expect(paused).toMatchObject({ status: 200, body: { enabled: false, nextTickAt: null, nextRuns: [] } });
    const resumed = await plane.call('POST', '/api/schedules/report/resume');
    expect(resumed).toMatchObject({ status: 200, body: { enabled: true } });
    expect(Date.parse(String(resumed.body.nextTickAt))).toBeGreaterThan(Date.now());
    const created = await create({ name: 'later', enabled: false });
    expect(created.body).toMatchObject({ enabled: false, nextTickAt: null });
    expect((await plane.call('PATCH', '/api/schedules/later', { enabled: true })).body.nextRuns).toHaveLength(5);
  });

  it('runs a schedule now, once, and records it as manual', async () => {
    await create({ enabled: false, payload: 'now' });
    const answer = await plane.call('POST', '/api/schedules/report/run');
    expect(answer).toMatchObject({ status: 202, body: { invocationId: expect.stringMatching(/^[0-9a-f-]{36}$/) } });
    const rows = await plane.postgres.database.run(
      'queued',
      (sql) =>
        sql<{ id: string; payload: Buffer; trigger: string }[]>`select id, payload, trigger from async_invocations`,
    );
    expect(rows).toEqual([{ id: answer.body.invocationId, payload: Buffer.from('"now"'), trigger: 'schedule' }]);
    const second = await plane.call('POST', '/api/schedules/report/run');
    const history = await plane.call('GET', '/api/schedules/report/ticks?limit=1');
    expect(history.body.ticks).toMatchObject([
      { trigger: 'manual', outcome: 'ran', count: 1, until: null, invocationId: second.body.invocationId },
    ]);
    const older = await plane.call('GET', `/api/schedules/report/ticks?cursor=${history.body.nextCursor}`);
    expect(older.body).toMatchObject({ ticks: [{ invocationId: answer.body.invocationId }], nextCursor: null });
    expect((await plane.call('GET', '/api/schedules/report/ticks?cursor=eA')).status).toBe(400);
  });

  it.each([
    [{ expression: 'nope' }, 400, 'invalid_request', 'expression'],
    [{ expression: 5 }, 400, 'invalid_request', 'expression'],
    [{ expression: undefined }, 400, 'invalid_request', 'expression'],
    [{ expression: '0 0 30 2 *' }, 400, 'invalid_request', 'expression'],
    [{ expression: 'cron(0 0 1 1 ? 2001)' }, 400, 'invalid_request', 'expression'],
    [{ expression: 'rate(0 seconds)' }, 400, 'invalid_request', 'expression'],
    [{ timeZone: 'Berlin' }, 400, 'invalid_request', 'timeZone'],
    [{ function: 'nobody' }, 404, 'function_not_found', 'function'],
    [{ function: 'a b' }, 400, 'invalid_name', 'function'],
    [{ name: 'a b' }, 400, 'invalid_name', 'name'],
    [{ name: '019a3c52-8d0e-7c1b-b0f4-6a3a5a1e9c11' }, 400, 'invalid_name', 'name'],
    [{ overlap: 'never' }, 400, 'invalid_request', 'overlap'],
    [{ catchUpMs: -1 }, 400, 'invalid_request', 'catchUpMs'],
    [{ jitterMs: 1e12 }, 400, 'invalid_request', 'jitterMs'],
    [{ enabled: 'yes' }, 400, 'invalid_request', 'enabled'],
    [{ payload: 'x'.repeat(MB) }, 413, 'payload_too_large', 'payload'],
    [{ handler: 'x' }, 400, 'invalid_request', 'handler'],
  ])(
    'refuses what it cannot take, says which field, and stores nothing: case %#',
    async (body, status, code, field) => {
      expect(await create(body)).toMatchObject({ status, body: { error: { code, details: { field } } } });
      expect(await stored()).toEqual([]);
      if ('function' in body || 'name' in body || ('expression' in body && body.expression === undefined)) return;
      await create();
      const before = await plane.call('GET', '/api/schedules/report');
      expect(await plane.call('PATCH', '/api/schedules/report', body)).toMatchObject({ status });
      expect(await plane.call('GET', '/api/schedules/report')).toEqual(before);
    },
  );

  it('refuses a name that is taken, and more schedules than a project may have', async () => {
    for (let at = 0; at < 9; at += 1) await create({ name: `s${at}` });
    expect(await create({ name: 's0' })).toMatchObject({
      status: 409,
      body: { error: { code: 'conflict', details: { field: 'name' } } },
    });
    expect((await create({ name: 's9' })).status).toBe(201);
    expect(await create({ name: 's10' })).toMatchObject({ status: 409, body: { error: { code: 'conflict' } } });
  });

  it('a change that ticks get in the way of is made all the same', async () => {
    await create({ expression: '* * * * * *', overlap: 'allow' });
    const changes = Array.from({ length: 8 }, (_, at) =>
      plane.call('PATCH', '/api/schedules/report', { jitterMs: at + 1 }),
    );
    expect((await Promise.all(changes)).map(({ status }) => status)).toEqual(changes.map(() => 200));
  });

  it('schedules of another project are not there', async () => {
    const { body } = await create();
    for (const path of [`/api/schedules/${body.id}`, '/api/schedules/report', '/api/schedules/report/ticks']) {
      const response = await fetch(plane.url + path, { headers: { 'x-api-key': strangerKey } });
      expect(response.status).toBe(404);
    }
    const gone = await fetch(`${plane.url}/api/schedules/${body.id}`, {
      method: 'DELETE',
      headers: { 'x-api-key': strangerKey },
    });
    expect(gone.status).toBe(404);
    expect(await stored()).toHaveLength(1);
  });

  it('schedules go with their function', async () => {
    const code = { source: 'export const handler = async () => 1;' };
    await plane.call('POST', '/api/functions', { name: 'short-lived', code });
    await create({ function: 'short-lived' });
    expect((await plane.call('DELETE', '/api/functions/short-lived')).status).toBe(204);
    expect((await plane.call('GET', '/api/schedules/short-lived')).status).toBe(404);
  });
});
