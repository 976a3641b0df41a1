import { once } from 'node:events';
import { request as httpRequest, type IncomingHttpHeaders } from 'node:http';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ApiKeys } from '../auth/api-keys.js';
import { KeySweep } from '../idempotency/key-sweep.js';
import type { InvocationRequest } from '../invocations/invocation.js';
import { startTestControlPlane, type TestControlPlane } from './test-control-plane.js';

const code = { source: 'export const handler = async () => 1;' };
const MB = 1024 * 1024;

const SYNC = '/api/functions/greet/invocations';
const ROUTE = '/api/execute/hello';
const ASYNC = `${SYNC}?mode=async`;
const JOBS = '/api/jobs';

interface Answered {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly bytes: Buffer;
}

describe('requests with an Idempotency-Key', () => {
  let plane: TestControlPlane;
  let strangerKey = '';
  let keys = 0;
  beforeAll(async () => {
    plane = await startTestControlPlane();
    await plane.call('PUT', '/api/functions/greet', { code, route: 'hello' });
    await plane.call('PUT', '/api/functions/other', { code });
    const { database } = plane.postgres;
    await database.run('add project', (sql) => sql`insert into projects (project_id) values ('stranger')`);
    strangerKey = await new ApiKeys(database).create('stranger', 'test');
  });
  afterAll(() => plane.close());
  beforeEach(() => {
    plane.behave.invocation = (request) => ({ body: request.payload });
    plane.invoked.length = 0;
  });

  const newKey = (): string => {
    keys += 1;
    return `key ${keys}`;
  };
  const send = async (
    path: string,
    key: string | undefined,
    body: string | Buffer = '{}',
    more: Record<string, string> = {},
  ): Promise<Answered> => {
    const headers = {
      ...{ 'x-api-key': plane.key, 'content-type': 'application/json' },
      ...(key === undefined ? {} : { 'idempotency-key': key }),
      ...more,
    };
    const req = httpRequest({ host: '127.0.0.1', port: plane.port, path, method: 'POST', headers, agent: false });
    req.end(body);
    const [res] = await once(req, 'response');
    const chunks: Buffer[] = [];
    for await (const chunk of res) chunks.push(chunk);
    return { status: res.statusCode, headers: res.headers, bytes: Buffer.concat(chunks) };
  };
  const errorOf = ({ bytes }: Answered) => JSON.parse(bytes.toString()).error;
  /** What two answers have in common that are the same. */
  const sameOf = ({ status, headers, bytes }: Answered) => {
    const { date: _d, connection: _c, 'keep-alive': _k, 'idempotent-replayed': _r, ...own } = headers;
    return { status, own, body: bytes.toString('hex') };
  };
  const expectReplay = (first: Answered, again: Answered): void => {
    expect(sameOf(again)).toEqual(sameOf(first));
    expect(first.headers).not.toHaveProperty('idempotent-replayed');
    expect(again.headers['idempotent-replayed']).toBe('true');
  };
  const rowsOf = (key: string) =>
    plane.postgres.database.run(
      'keys',
      (sql) => sql<{ statusCode: number | null; invocationId: string; scope: string }[]>`
        select * from idempotency_keys where key = ${key}`,
    );
  const failure = (outcome: 'function_error' | 'timeout') => () => ({
    outcome,
    error: { errorType: 'Error', errorMessage: 'it says why', trace: ['at 1'], file: '', line: 0, column: 0 },
  });
  /** Invocations do not end before `release` is called. */
  const hold = (): { release: () => void } => {
    let release = (): void => {};
    const gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    plane.behave.invocation = async (request) => {
      await gate;
      return { body: request.payload };
    };
    return { release };
  };
  /** As a control plane leaves it that is killed while the invocation runs. */
  const kill = async (key: string, { leftMs = 60_000, ageMs = 0 } = {}): Promise<string> => {
    const [row] = await plane.postgres.database.run(
      'kill',
      (sql) => sql<{ invocationId: string }[]>`
        update idempotency_keys set status_code = null, headers = null, body = null,
          runs_until = now() + ${leftMs} * interval '1 millisecond',
          created_at = now() - ${ageMs} * interval '1 millisecond'
        where key = ${key} returning invocation_id`,
    );
    return row?.invocationId ?? expect.fail('no such key');
  };
  const record = async (id: string, values: Record<string, unknown>): Promise<void> => {
    const row = {
      ...{ id, project_id: 'default', function_id: uuidv7(), function_name: 'greet', version_id: uuidv7() },
      ...{ version_number: 3, trigger: 'api', epoch: 1, receipt: { start: 'cold', runMs: 7 }, node_id: 'node-9' },
      ...{ started_at: new Date(), finished_at: new Date(), ...values },
    };
    await plane.postgres.database.run('record', (sql) => sql`insert into executions ${sql(row)}`);
  };

  describe('in sync mode', () => {
    it('the same request gets the same answer, and nothing is run again', async () => {
      const key = newKey();
      const first = await send(SYNC, key, '{"a":1}');
      expect(first).toMatchObject({ status: 200, headers: { 'x-request-id': plane.invoked[0]?.request.id } });
      plane.behave.invocation = () => ({ body: Buffer.from('"another"') });
      for (let i = 0; i < 3; i += 1) expectReplay(first, await send(SYNC, key, '{"a":1}'));
      expect(plane.invoked).toHaveLength(1);
      // The answer is the function's, whatever has been deployed since.
      await plane.call('PATCH', '/api/functions/greet', { memoryMb: 256 });
      expectReplay(first, await send(`${SYNC}?mode=sync`, key, '{"a":1}'));
    });

    it('without the header nothing is looked up or kept', async () => {
      const before = await plane.postgres.database.run('count', (sql) => sql`select key from idempotency_keys`);
      await send(SYNC, undefined);
      await send(SYNC, undefined);
      expect(plane.invoked).toHaveLength(2);
      expect(await plane.postgres.database.run('count', (sql) => sql`select key from idempotency_keys`)).toEqual(
        before,
      );
    });

    it('a key stands for one request: another body, mode or kind of event is refused', async () => {
      const key = newKey();
      await send(SYNC, key, '{"a":1}');
      for (const [path, body] of [
        [SYNC, '{"a":2}'],
        [SYNC, ''],
        [ASYNC, '{"a":1}'],
        [ROUTE, '{"a":1}'],
      ] as const) {
        const answer = await send(path, key, body);
        expect(answer.status, path).toBe(422);
        expect(errorOf(answer)).toMatchObject({ code: 'idempotency_mismatch', details: { field: 'Idempotency-Key' } });
      }
      expect(plane.invoked).toHaveLength(1);
    });

    it('another function or project has keys of its own', async () => {
      const key = newKey();
      await send(SYNC, key, '"secret"');
      expect((await send('/api/functions/other/invocations', key, '"x"')).bytes.toString()).toBe('"x"');
      const stranger = { 'x-api-key': strangerKey };
      expect((await send(SYNC, key, '"secret"', stranger)).status).toBe(404);
      const deployed = await fetch(`${plane.url}/api/functions/greet`, {
        method: 'PUT',
        headers: { 'x-api-key': strangerKey, 'content-type': 'application/json' },
        body: JSON.stringify({ code }),
      });
      expect(deployed.status).toBe(201);
      plane.invoked.length = 0;
      plane.behave.invocation = () => ({ body: Buffer.from('"theirs"') });
      const theirs = await send(SYNC, key, '"secret"', stranger);
      expect(theirs.bytes.toString()).toBe('"theirs"');
      expect(theirs.headers).not.toHaveProperty('idempotent-replayed');
      expect((await send(SYNC, key, '"secret"')).bytes.toString()).toBe('"secret"');
      expect(plane.invoked).toHaveLength(1);
    });

    it('while it runs the same request is told to come back', async () => {
      const { release } = hold();
      const key = newKey();
      const first = send(SYNC, key);
      await expect.poll(() => plane.invoked.length).toBe(1);
      const meanwhile = await send(SYNC, key);
      expect(meanwhile).toMatchObject({ status: 409, headers: { 'retry-after': '1' } });
      expect(errorOf(meanwhile)).toMatchObject({
        code: 'conflict',
        details: { executionId: plane.invoked[0]?.request.id },
      });
      expect((await send(SYNC, key, '"other"')).status).toBe(422);
      release();
      expectReplay(await first, await send(SYNC, key));
    });

    it('of 20 requests at the same moment one runs, and the others wait for it or get its answer', async () => {
      const { release } = hold();
      const key = newKey();
      const racing = Array.from({ length: 20 }, () => send(SYNC, key));
      await expect.poll(() => plane.invoked.length).toBe(1);
      setTimeout(release, 50);
      const answers = await Promise.all(racing);
      expect(plane.invoked).toHaveLength(1);
      const statuses = answers.map(({ status }) => status);
      expect(statuses.filter((status) => status === 200).length).toBeGreaterThanOrEqual(1);
      expect(statuses.every((status) => status === 200 || status === 409)).toBe(true);
      expect(
        answers.filter(({ headers }) => headers['idempotent-replayed'] === undefined && headers['x-lambda-outcome']),
      ).toHaveLength(1);
    });

    it('many keys at the same moment run once each', async () => {
      const mine = Array.from({ length: 40 }, newKey);
      const answers = await Promise.all([...mine, ...mine].map((key) => send(SYNC, key, JSON.stringify(key))));
      expect(new Set(plane.invoked.map(({ request }) => request.payload.toString())).size).toBe(40);
      expect(plane.invoked).toHaveLength(40);
      expect(answers.every(({ status }) => status === 200 || status === 409)).toBe(true);
    });

    it.each(['function_error', 'timeout'] as const)('%s is an answer that is kept', async (outcome) => {
      plane.behave.invocation = failure(outcome);
      const key = newKey();
      const first = await send(SYNC, key);
      expect(errorOf(first)).toMatchObject({ code: outcome, details: { errorMessage: 'it says why' } });
      expectReplay(first, await send(SYNC, key));
      expect(plane.invoked).toHaveLength(1);
    });

    it('outcome_unknown is kept: it may have run', async () => {
      plane.behave.invocation = () => ({ outcome: 'outcome_unknown', reason: 'the link broke' });
      const key = newKey();
      const first = await send(SYNC, key);
      expect(first.status).toBe(502);
      plane.behave.invocation = () => ({ body: Buffer.from('1') });
      expectReplay(first, await send(SYNC, key));
      expect(plane.invoked).toHaveLength(1);
    });

    it.each(['throttled', 'not_started'] as const)('%s frees the key: the same request runs', async (outcome) => {
      plane.behave.invocation = () => ({ outcome, retryAfterSeconds: 2 });
      const key = newKey();
      const first = await send(SYNC, key);
      expect(first.headers).toMatchObject({ 'retry-after': '2', 'x-lambda-outcome': outcome });
      expect(await rowsOf(key)).toEqual([]);
      plane.behave.invocation = () => ({ body: Buffer.from('1') });
      expect(await send(SYNC, key)).toMatchObject({ status: 200 });
      expect(plane.invoked).toHaveLength(2);
    });

    it('what is refused before anything runs takes no key', async () => {
      const key = newKey();
      expect((await send(SYNC, key, Buffer.alloc(6 * MB + 1))).status).toBe(413);
      expect((await send('/api/functions/nobody/invocations', key)).status).toBe(404);
      expect((await send(SYNC, key, '{}', { 'x-api-key': 'wrong' })).status).toBe(401);
      expect((await send(`${SYNC}?mode=odd`, key)).status).toBe(400);
      expect(await rowsOf(key)).toEqual([]);
      expect((await send(SYNC, key)).status).toBe(200);
    });

    it.each(['', 'x'.repeat(256), 'caf\u00e9'])('refuses the key "%s" and names it', async (key) => {
      for (const path of [SYNC, ASYNC, ROUTE, JOBS]) {
        const answer = await send(path, key);
        expect(answer.status, path).toBe(400);
        expect(errorOf(answer)).toMatchObject({ code: 'invalid_request', details: { field: 'Idempotency-Key' } });
      }
      expect(plane.invoked).toEqual([]);
    });

    it('takes keys of every printable character, and 255 of them', async () => {
      for (const key of [String.fromCharCode(...Array.from({ length: 94 }, (_, i) => i + 33)), 'x'.repeat(255)]) {
        expectReplay(await send(SYNC, key), await send(SYNC, key));
      }
    });

    it.each([
      ['6 MB', Buffer.alloc(6_291_556, 'x')],
      ['every byte, NUL among them', Buffer.from(Array.from({ length: 512 }, (_, i) => i % 256))],
      ['nothing', Buffer.alloc(0)],
    ])('an answer of %s is kept byte for byte', async (_what, body) => {
      plane.behave.invocation = () => ({ body });
      const key = newKey();
      const first = await send(SYNC, key);
      expect(first.bytes.equals(body)).toBe(true);
      const again = await send(SYNC, key);
      expect(again.bytes.equals(body)).toBe(true);
      expectReplay(first, again);
    });

    it('a body of every byte is the same body', async () => {
      const body = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
      const key = newKey();
      expectReplay(await send(SYNC, key, body), await send(SYNC, key, body));
    });

    it.each([201, 204, 304, 500])('a route keeps the head of an HTTP response with status %i', async (statusCode) => {
      const head = (name: string, value: string) => ({ name, value });
      plane.behave.invocation = () => ({
        body: Buffer.from([0, 255, 0]),
        http: {
          ...{ statusCode, cookies: ['a=1; HttpOnly', 'b=2'] },
          headers: [
            head('content-type', 'image/png'),
            head('x-own', 'caf\u00e9'),
            head('idempotent-replayed', 'forged'),
          ],
        },
      });
      const key = newKey();
      const first = await send(ROUTE, key);
      const again = await send(ROUTE, key);
      expectReplay(first, again);
      expect(again).toMatchObject({
        status: statusCode,
        headers: { 'x-own': 'caf\u00e9', 'set-cookie': ['a=1; HttpOnly', 'b=2'] },
      });
      expect(plane.invoked).toHaveLength(1);
    });

    it('a client that leaves before the answer gets it when it asks again', async () => {
      const { release } = hold();
      const key = newKey();
      const headers = { 'x-api-key': plane.key, 'idempotency-key': key };
      const req = httpRequest({
        host: '127.0.0.1',
        port: plane.port,
        path: SYNC,
        method: 'POST',
        headers,
        agent: false,
      });
      req.on('error', () => undefined);
      req.end('"late"');
      await expect.poll(() => plane.invoked.length).toBe(1);
      req.destroy();
      release();
      await expect.poll(async () => (await send(SYNC, key, '"late"')).bytes.toString()).toBe('"late"');
      expect(plane.invoked).toHaveLength(1);
    });
  });

  describe('when the control plane is killed in between', () => {
    const ran = async (path = SYNC): Promise<string> => {
      const key = newKey();
      await send(path, key);
      plane.invoked.length = 0;
      return key;
    };

    it('the key stays taken until nothing can be running, then the outcome is unknown, and nothing is run again', async () => {
      const key = await ran();
      await kill(key);
      expect((await send(SYNC, key)).status).toBe(409);
      const id = await kill(key, { leftMs: -1 });
      const answer = await send(SYNC, key);
      expect(answer).toMatchObject({
        status: 502,
        headers: { 'x-request-id': id, 'x-lambda-outcome': 'outcome_unknown', 'idempotent-replayed': 'true' },
      });
      expect(errorOf(answer)).toMatchObject({ code: 'outcome_unknown', details: { executionId: id } });
      expect((await send(SYNC, key, '"other"')).status).toBe(422);
      expect(plane.invoked).toEqual([]);
    });

    it('a result that was recorded meanwhile is the answer, and stays it', async () => {
      const key = await ran();
      const id = await kill(key, { leftMs: -1 });
      await record(id, { outcome: 'success', output: '{"b":2}' });
      const answer = await send(SYNC, key);
      expect(answer).toMatchObject({
        status: 200,
        headers: {
          ...{ 'x-request-id': id, 'x-lambda-version': '3', 'x-lambda-start': 'cold', 'x-lambda-node': 'node-9' },
          ...{ 'content-type': 'application/json', 'idempotent-replayed': 'true', 'server-timing': 'run;dur=7.000' },
        },
      });
      expect(answer.bytes.toString()).toBe('{"b":2}');
      await plane.postgres.database.run('forget', (sql) => sql`delete from executions where id = ${id}`);
      expect(sameOf(await send(SYNC, key))).toEqual(sameOf(answer));
      expect(plane.invoked).toEqual([]);
    });

    it('an error that was recorded meanwhile is the answer', async () => {
      const key = await ran();
      const id = await kill(key, { leftMs: -1 });
      const error = { errorType: 'TypeError', errorMessage: 'x is undefined', trace: ['at 1'] };
      await record(id, { outcome: 'function_error', error });
      const answer = await send(SYNC, key);
      expect(answer.status).toBe(502);
      expect(errorOf(answer)).toMatchObject({ code: 'function_error', details: error, requestId: id });
    });

    it('a result that has been recorded for a while is the answer before the time is over', async () => {
      const key = await ran();
      const id = await kill(key, { leftMs: 600_000, ageMs: 120_000 });
      await record(id, { outcome: 'success', output: '1', recorded_at: new Date(Date.now() - 5_000) });
      // The process that ran it may be about to answer.
      expect((await send(SYNC, key)).status).toBe(409);
      await plane.postgres.database.run(
        'age',
        (sql) => sql`update executions set recorded_at = now() - interval '31 seconds' where id = ${id}`,
      );
      expect((await send(SYNC, key)).status).toBe(200);
    });

    it('a result that is no text, or long, is given back byte for byte', async () => {
      for (const output of [Buffer.from([0, 255, 10]), Buffer.alloc(MB, 'x')]) {
        const key = await ran();
        const id = await kill(key, { leftMs: -1 });
        await record(id, { outcome: 'success', output: null });
        const row = { execution_id: id, project_id: 'default', output };
        await plane.postgres.database.run('body', (sql) => sql`insert into execution_bodies ${sql(row)}`);
        for (let i = 0; i < 2; i += 1) expect((await send(SYNC, key)).bytes.equals(output)).toBe(true);
      }
    });

    it.each([
      ['was not kept', SYNC, { output: null }],
      ['held what text cannot', SYNC, { output: '"\uFFFD"' }],
      ['was an HTTP response, whose head is not recorded', ROUTE, { output: 'made', status_code: 201 }],
    ])('a success whose result %s is said to be one, without a result', async (_what, path, values) => {
      const key = await ran(path);
      const id = await kill(key, { leftMs: -1 });
      await record(id, { outcome: 'success', ...values });
      const answer = await send(path, key);
      expect(answer.status).toBe(502);
      expect(errorOf(answer)).toMatchObject({
        code: 'outcome_unknown',
        details: { outcome: 'success', executionId: id },
      });
      expect(plane.invoked).toEqual([]);
    });

    it('an invocation that was recorded as not started frees the key', async () => {
      const key = await ran();
      const id = await kill(key, { leftMs: -1 });
      await record(id, { outcome: 'not_started' });
      const answers = await Promise.all(Array.from({ length: 10 }, () => send(SYNC, key)));
      expect(answers.filter(({ status }) => status === 200).length).toBeGreaterThanOrEqual(1);
      expect(plane.invoked).toHaveLength(1);
      expect(plane.invoked[0]?.request.id).not.toBe(id);
    });

    it('an outcome that was recorded as unknown is answered when nobody can know better any more', async () => {
      const key = await ran();
      const id = await kill(key, { leftMs: 60_000, ageMs: 120_000 });
      await record(id, { outcome: 'outcome_unknown', recorded_at: new Date(Date.now() - 60_000) });
      expect((await send(SYNC, key)).status).toBe(409);
      await kill(key, { leftMs: -1 });
      expect((await send(SYNC, key)).status).toBe(502);
    });
  });

  describe('when the database is away', () => {
    it('nothing is run, and the same request runs when it is back', async () => {
      const key = newKey();
      await plane.postgres.restart(async () => {
        expect(errorOf(await send(SYNC, key))).toMatchObject({ code: 'unavailable' });
        expect((await send(SYNC, undefined)).status).toBe(200);
      });
      expect(plane.invoked).toHaveLength(1);
      await expect.poll(async () => (await send(SYNC, key)).status, { timeout: 20_000 }).toBe(200);
      expect(plane.invoked).toHaveLength(2);
    });

    it('an invocation that ends is answered all the same, and its answer is kept when it is back', async () => {
      const { release } = hold();
      const key = newKey();
      const first = send(SYNC, key, '"kept"');
      await expect.poll(() => plane.invoked.length).toBe(1);
      await plane.postgres.restart(async () => {
        release();
        expect((await first).status).toBe(200);
      });
      await expect.poll(async () => (await send(SYNC, key, '"kept"')).status, { timeout: 20_000 }).toBe(200);
      expectReplay(await first, await send(SYNC, key, '"kept"'));
      expect(plane.invoked).toHaveLength(1);
    });
  });

  describe('in async mode', () => {
    const ranOf = (key: string): InvocationRequest[] =>
      plane.invoked.map(({ request }) => request).filter(({ payload }) => payload.toString() === JSON.stringify(key));

    it('the same request gets the same 202, and one invocation runs', async () => {
      const key = newKey();
      const first = await send(ASYNC, key, JSON.stringify(key));
      expect(first).toMatchObject({ status: 202 });
      expect(first.headers['x-request-id']).toBe(JSON.parse(first.bytes.toString()).id);
      await expect.poll(() => ranOf(key).length).toBe(1);
      // Also when it has run.
      for (let i = 0; i < 3; i += 1) expectReplay(first, await send(ASYNC, key, JSON.stringify(key)));
      expect(ranOf(key)).toHaveLength(1);
      expect((await send(ASYNC, key, '"other"')).status).toBe(422);
      expect((await send(SYNC, key, JSON.stringify(key))).status).toBe(422);
    });

    it('20 at the same moment are one, among others without a key', async () => {
      const key = newKey();
      const sent = Array.from({ length: 20 }, (_, i) => [
        send(ASYNC, key, JSON.stringify(key)),
        ...(i % 4 === 0 ? [send(ASYNC, undefined, '"plain"'), send(ASYNC, key, '"wrong"')] : []),
      ]);
      const answers = await Promise.all(sent.flat());
      // Whichever came first.
      const accepted = answers
        .filter(({ status }) => status === 202)
        .map(({ bytes }) => JSON.parse(bytes.toString()).id);
      const replays = answers.filter(({ headers }) => headers['idempotent-replayed'] === 'true');
      const refused = answers.filter(({ status }) => status === 422);
      expect(new Set(accepted).size).toBe(6);
      expect([refused.length, replays.length]).toEqual(refused.length === 5 ? [5, 19] : [20, 4]);
      await expect.poll(() => plane.invoked.length).toBe(6);
    });

    it('a full lane takes no key: the same request is accepted when there is room', async () => {
      const { release } = hold();
      const path = '/api/functions/other/invocations?mode=async';
      const mine = Array.from({ length: 60 }, newKey);
      const answers: Answered[] = [];
      for (const key of mine) answers.push(await send(path, key, JSON.stringify(key)));
      const refused = mine.filter((_, i) => answers[i]?.status === 429);
      expect(refused.length).toBeGreaterThan(10);
      expect(answers.every(({ status }) => status === 202 || status === 429)).toBe(true);
      expect(await rowsOf(refused[0] ?? '')).toEqual([]);
      // What was accepted before is, however full it is.
      expectReplay(answers[0] ?? expect.fail(), await send(path, mine[0], JSON.stringify(mine[0])));
      release();
      for (const key of refused) {
        await expect.poll(async () => (await send(path, key, JSON.stringify(key))).status).toBe(202);
      }
      await expect.poll(() => new Set(mine.flatMap((key) => ranOf(key).map(({ id }) => id))).size).toBe(60);
      expect(plane.invoked).toHaveLength(60);
    });

    it('answers that are given again take no room in a lane that is almost full', async () => {
      const { database } = plane.postgres;
      const path = '/api/functions/other/invocations?mode=async';
      const [old, young] = [newKey(), newKey()];
      const first = await send(path, old, '"x"');
      await expect.poll(() => plane.invoked.length).toBe(1);
      const add = (count: number) =>
        database.run(
          'fill',
          (sql) => sql`
            update lanes set queued = queued + ${count} where id = (
              select id from functions where project_id = 'default' and name = 'other'
            )`,
        );
      await add(19);
      const [added, ...again] = await Promise.all([
        send(path, young, '"y"'),
        ...Array.from({ length: 10 }, () => send(path, old, '"x"')),
      ]);
      expect(added.status).toBe(202);
      for (const answer of again) expectReplay(first, answer);
      await add(-19);
      await expect.poll(() => plane.invoked.length).toBe(2);
    });

    it('a lane that becomes full at the same moment leaves no key behind, and takes the others of the batch', async () => {
      const { database } = plane.postgres;
      const [lane] = await database.run(
        'function',
        (sql) => sql<{ id: string }[]>`
          select id from functions where project_id = 'default' and name = 'other'`,
      );
      const id = lane?.id ?? '';
      await expect
        .poll(
          async () => (await database.run('lane', (sql) => sql`select queued from lanes where id = ${id}`))[0]?.queued,
        )
        .toBe(0);
      const filled = database.run(
        'fill',
        (sql) => sql`
          with filled as (update lanes set queued = queued + 20 where id = ${id} returning 1) select pg_sleep(1) from filled`,
      );
      await expect
        .poll(async () => {
          const rows = await database.run(
            'asleep',
            (sql) => sql`select 1 from pg_stat_activity where wait_event = 'PgSleep'`,
          );
          return rows.length;
        })
        .toBe(1);
      const [key, other] = [newKey(), newKey()];
      const [full, taken] = await Promise.all([
        send('/api/functions/other/invocations?mode=async', key, '"x"'),
        send(ASYNC, other, JSON.stringify(other)),
      ]);
      expect(full).toMatchObject({ status: 429, headers: { 'retry-after': '5' } });
      expect(taken).toMatchObject({ status: 202 });
      expect(await rowsOf(key)).toEqual([]);
      await filled;
      await database.run('empty', (sql) => sql`update lanes set queued = queued - 20 where id = ${id}`);
      expect((await send('/api/functions/other/invocations?mode=async', key, '"x"')).status).toBe(202);
      await expect.poll(() => plane.invoked.length).toBe(2);
    });

    it('one that was not answered because the database went away is accepted once', async () => {
      const key = newKey();
      let status = 0;
      await plane.postgres.restart(async () => {
        ({ status } = await send(ASYNC, key, JSON.stringify(key)));
      });
      expect(status).toBe(503);
      await expect
        .poll(async () => (await send(ASYNC, key, JSON.stringify(key))).status, { timeout: 20_000 })
        .toBe(202);
      await expect.poll(() => ranOf(key).length, { timeout: 20_000 }).toBe(1);
    });
  });

  describe('for jobs', () => {
    const body = JSON.stringify({ code: 'return args;', args: { n: 1e3 } });

    it('the same submission gets the same job, as it was stored', async () => {
      const key = newKey();
      const first = await send(JOBS, key, body);
      const { id } = JSON.parse(first.bytes.toString());
      expect(first).toMatchObject({ status: 202, headers: { 'x-request-id': id, location: `/api/jobs/${id}` } });
      await plane.call('GET', `/api/jobs/${id}?waitMs=10000`);
      expectReplay(first, await send(JOBS, key, body));
      // The same in other words.
      expectReplay(first, await send(JOBS, key, '{"args": {"n": 1000}, "code": "return args;", "retries": 0}'));
      for (const more of [{ args: { n: 2 } }, { retries: 1 }, { timeoutMs: 1_000 }, { code: 'return 1;' }]) {
        const answer = await send(JOBS, key, JSON.stringify({ ...JSON.parse(body), ...more }));
        expect(errorOf(answer)).toMatchObject({ code: 'idempotency_mismatch' });
      }
      expect(plane.invoked).toHaveLength(1);
    });

    it('shows what a job without a key shows', async () => {
      const [keyed, plain] = [await send(JOBS, newKey(), body), await send(JOBS, undefined, body)].map(({ bytes }) =>
        JSON.parse(bytes.toString()),
      );
      expect(Object.keys(keyed)).toEqual(Object.keys(plain));
      const { id: _i, createdAt: _c, ...same } = keyed;
      expect(plain).toMatchObject(same);
    });

    it('20 at the same moment are one', async () => {
      const key = newKey();
      const mine = JSON.stringify({ code: 'return args;', args: key });
      const answers = await Promise.all(Array.from({ length: 20 }, () => send(JOBS, key, mine)));
      expect(new Set(answers.map(({ bytes }) => bytes.toString())).size).toBe(1);
      expect(answers.filter(({ headers }) => headers['idempotent-replayed'] === undefined)).toHaveLength(1);
      await plane.call('GET', `/api/jobs/${JSON.parse(answers[0]?.bytes.toString() ?? '').id}?waitMs=10000`);
      const ran = plane.invoked.filter(({ request }) => request.payload.toString() === JSON.stringify(key));
      expect(ran).toHaveLength(1);
    });

    it('a full queue takes no key, and a submission that is refused neither', async () => {
      const { release } = hold();
      const mine = Array.from({ length: 30 }, newKey);
      const answers: Answered[] = [];
      for (const key of mine) answers.push(await send(JOBS, key, body));
      const refused = mine.filter((_, i) => answers[i]?.status === 429);
      expect(refused.length).toBeGreaterThan(0);
      expectReplay(answers[0] ?? expect.fail(), await send(JOBS, mine[0], body));
      release();
      await expect.poll(async () => (await send(JOBS, refused[0], body)).status).toBe(202);
      const key = newKey();
      expect((await send(JOBS, key, '{"code":""}')).status).toBe(400);
      expect((await send(JOBS, key, body)).status).toBe(202);
    });

    it('a job and a function may have the same key, and projects too', async () => {
      const key = newKey();
      const ids = [
        await send(JOBS, key, body),
        await send(JOBS, key, body, { 'x-api-key': strangerKey }),
        await send(ASYNC, key, body),
      ].map(({ status, bytes }) => (status === 202 ? JSON.parse(bytes.toString()).id : status));
      expect(new Set(ids).size).toBe(3);
    });
  });

  it('keys are removed after a day, however many, and are free then', async () => {
    const { database } = plane.postgres;
    const [old, young] = [newKey(), newKey()];
    await send(SYNC, old);
    await send(SYNC, young);
    await database.run(
      'age',
      (sql) => sql`
        update idempotency_keys set created_at = now() - interval '24 hours 1 second' where key = ${old}`,
    );
    await database.run(
      'more',
      (sql) => sql`
        insert into idempotency_keys (project_id, scope, key, request_hash, invocation_id, created_at, runs_until)
        select 'default', 'x', 'old ' || n, 'x', ${uuidv7()}::uuid, now() - interval '2 days', now()
        from generate_series(1, 120) n`,
    );
    const sweep = new KeySweep(database, { info: () => {}, warn: () => {} } as never);
    expect(await sweep.run()).toBe(121);
    sweep.close();
    plane.invoked.length = 0;
    expect((await send(SYNC, young)).headers['idempotent-replayed']).toBe('true');
    expect((await send(SYNC, old)).headers).not.toHaveProperty('idempotent-replayed');
    expect(plane.invoked).toHaveLength(1);
  });
});
