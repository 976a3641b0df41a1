import { unzipSync } from 'fflate';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ApiKeys } from '../auth/api-keys.js';
import { startTestControlPlane, type TestControlPlane } from './test-control-plane.js';

const code = 'return args;';
const MB = 1024 * 1024;

type Body = Record<string, unknown>;

describe('the jobs API', () => {
  let plane: TestControlPlane;
  let strangerKey = '';
  beforeAll(async () => {
    plane = await startTestControlPlane();
    const { database } = plane.postgres;
    await database.run('add project', (sql) => sql`insert into projects (project_id) values ('stranger')`);
    strangerKey = await new ApiKeys(database).create('stranger', 'test');
  });
  afterAll(() => plane.close());
  beforeEach(() => {
    plane.behave.invocation = (request) => ({ body: request.payload });
    plane.invoked.length = 0;
  });

  const failure =
    (errorType: string, more: object = {}, outcome: 'function_error' | 'timeout' = 'function_error') =>
    () => ({
      outcome,
      error: { errorType, errorMessage: 'it says why', trace: ['at 1'], file: '', line: 0, column: 0, ...more },
    });
  /** A request whose body is this very text. */
  const send = (method: string, path: string, body?: string, key = plane.key) =>
    fetch(plane.url + path, {
      method,
      headers: { 'x-api-key': key, ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
      ...(body === undefined ? {} : { body }),
    });
  const submit = async (body: Body): Promise<string> => {
    const answer = await plane.call('POST', '/api/jobs', body);
    expect(answer, JSON.stringify(answer.body)).toMatchObject({ status: 202, body: { status: 'queued', attempts: 0 } });
    return String(answer.body.id);
  };
  const finished = async (id: string): Promise<Body> => {
    const { body } = await plane.call('GET', `/api/jobs/${id}?waitMs=20000`);
    expect(body.finishedAt).not.toBeNull();
    return body;
  };
  /** Jobs do not end before `release` is called. */
  const hold = (): { release: () => void } => {
    let release = (): void => {};
    const gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    plane.behave.invocation = (request) =>
      new Promise((resolve) => {
        void gate.then(() => resolve({ body: request.payload }));
        // What an agent answers when it has killed the sandbox.
        request.signal?.addEventListener('abort', () =>
          resolve({ outcome: 'outcome_unknown', reason: 'The sandbox was stopped (cancelled)' }),
        );
      });
    return { release };
  };

  it('stores a job, runs it once in a sandbox of its own, and shows its result, receipt and execution', async () => {
    const source = 'const s = "\u2028"; // žluť 🦊\nreturn args;';
    const answer = await send('POST', '/api/jobs', JSON.stringify({ code: source, args: { a: 1 }, memoryMb: 64 }));
    expect(answer.status).toBe(202);
    const { id, ...stored } = (await answer.json()) as Body;
    expect(answer.headers.get('location')).toBe(`/api/jobs/${id}`);
    expect(stored).toMatchObject({
      ...{ status: 'queued', runtime: 'nodejs', memoryMb: 64, timeoutMs: 30_000, retries: 0, attempts: 0 },
      ...{ executionIds: [], outcome: null, error: null, startedAt: null, finishedAt: null },
    });
    const job = await finished(String(id));
    expect(job).toMatchObject({
      ...{ id, status: 'succeeded', outcome: 'success', attempts: 1, code: source, args: { a: 1 }, result: { a: 1 } },
      ...{ resultTruncated: false, resultBytes: 7, nodeId: 'node-1', error: null, reason: null, logs: [] },
      receipt: expect.objectContaining({ runMs: 1.5 }),
    });
    expect(plane.invoked).toHaveLength(1);
    const { request, spec } = plane.invoked[0] ?? expect.fail('nothing ran');
    expect(request).toMatchObject({ trigger: 'job', singleUse: true, id: (job.executionIds as string[])[0] });
    expect(spec).toMatchObject({
      ...{ versionId: id, realm: 'vm', handler: 'job', functionName: 'job', timeoutMs: 30_000, memoryMb: 64 },
      ...{ keepAliveMs: 0, environment: {}, network: 'none' },
    });
    expect(plane.forgotten).toContain(id);
    const rows = await plane.postgres.database.run(
      'archive',
      (sql) => sql<{ data: Buffer }[]>`select data from artifact_chunks where sha256 = ${spec.artifactSha256}`,
    );
    const files = unzipSync(rows[0]?.data ?? Buffer.alloc(0));
    expect(Object.keys(files)).toEqual(['job.js']);
    expect(Buffer.from(files['job.js'] ?? []).toString()).toBe(source);
  });

  it('gives Python its own file, and every job of a kind the same function', async () => {
    await finished(await submit({ code: 'result = args', runtime: 'python3.11' }));
    await finished(await submit({ code, args: null }));
    await finished(await submit({ code, args: 3 }));
    const [python, ...node] = plane.invoked;
    expect(python?.spec).toMatchObject({ runtime: 'python3.11', realm: 'vm', handler: 'job' });
    expect(python?.request.payload.toString()).toBe('{}');
    expect(node.map(({ request }) => request.payload.toString())).toEqual(['null', '3']);
    expect(node[0]?.spec.functionId).toBe(node[1]?.spec.functionId);
    expect(node[0]?.spec.functionId).not.toBe(python?.spec.functionId);
  });

  it.each([
    ['a prototype', '{"__proto__":{"polluted":true},"constructor":{"prototype":1}}'],
    ['characters that break lines, quotes and terminals', JSON.stringify('\u2028\u2029\u001b[31m</script>\ud800\0')],
    ['some depth', `${'['.repeat(1_000)}${']'.repeat(1_000)}`],
    ['6 MB', JSON.stringify('x'.repeat(6 * MB - 2))],
  ])('passes arguments with %s on as they are, and gives them back', async (_what, args) => {
    const answer = await send('POST', '/api/jobs', `{"code":${JSON.stringify(code)},"args":${args}}`);
    expect(answer.status).toBe(202);
    const { id } = (await answer.json()) as Body;
    const job = await finished(String(id));
    expect(plane.invoked[0]?.request.payload.toString() === args).toBe(true);
    expect(job.status).toBe('succeeded');
    const result = await send('GET', `/api/jobs/${id}/result`);
    if (args.length > MB) {
      expect(job).toMatchObject({ result: null, args: null, resultTruncated: true, resultBytes: 6 * MB });
      expect(result.status).toBe(409);
    } else {
      expect(await result.text()).toBe(args);
      expect(await (await send('GET', `/api/jobs/${id}`)).text()).toContain(`"args":${args},"result":${args}}`);
    }
  });

  it('gives a result back digit by digit', async () => {
    plane.behave.invocation = () => ({ body: Buffer.from('{"n":12345678901234567890,"e":1e400}') });
    const id = await submit({ code });
    await finished(id);
    expect(await (await send('GET', `/api/jobs/${id}/result`)).text()).toBe('{"n":12345678901234567890,"e":1e400}');
    expect(await (await send('GET', `/api/jobs/${id}`)).text()).toContain(
      '"result":{"n":12345678901234567890,"e":1e400}}',
    );
  });

  it.each([
    [{}, 400, 'invalid_request', 'code'],
    [{ code: '' }, 400, 'invalid_request', 'code'],
    [{ code: 1 }, 400, 'invalid_request', 'code'],
    [{ code: 'a\0b' }, 400, 'invalid_request', 'code'],
    [{ code: 'return "\ud800"' }, 400, 'invalid_request', 'code'],
    [{ code: 'é'.repeat(128 * 1024 + 1) }, 413, 'payload_too_large', 'code'],
    [{ code, args: 'x'.repeat(6 * MB) }, 413, 'payload_too_large', 'args'],
    [{ code, runtime: 'ruby' }, 400, 'unsupported_runtime', 'runtime'],
    [{ code, runtime: 'provided' }, 400, 'unsupported_runtime', 'runtime'],
    [{ code, retries: 6 }, 400, 'invalid_request', 'retries'],
    [{ code, retries: -1 }, 400, 'invalid_request', 'retries'],
    [{ code, timeoutMs: 99 }, 400, 'invalid_request', 'timeoutMs'],
    [{ code, memoryMb: 1e9 }, 400, 'invalid_request', 'memoryMb'],
    [{ code, handler: 'x' }, 400, 'invalid_request', 'handler'],
    [[], 400, 'invalid_request', undefined],
  ])('refuses what it cannot take and says which field: case %#', async (body, status, errorCode, field) => {
    const answer = await plane.call('POST', '/api/jobs', body);
    expect(answer).toMatchObject({
      status,
      body: { error: { code: errorCode, ...(field && { details: { field } }) } },
    });
    expect(plane.invoked).toEqual([]);
  });

  it('refuses arguments that are nested too deeply, and bodies that are too long', async () => {
    const deep = `${'['.repeat(1_000_000)}${']'.repeat(1_000_000)}`;
    const answer = await send('POST', '/api/jobs', `{"code":"1","args":${deep}}`);
    expect(answer.status).toBe(400);
    expect(await answer.json()).toMatchObject({ error: { code: 'invalid_request', details: { field: 'args' } } });
    const long = await send('POST', '/api/jobs', `{"code":"1","args":"${'x'.repeat(12 * MB)}"}`);
    expect(long.status).toBe(413);
  });

  it.each([
    ['throws', failure('TypeError'), 'failed', 'function_error'],
    ['runs out of memory', failure('Runtime.OutOfMemory'), 'failed', 'function_error'],
    ['runs out of time', failure('Sandbox.Timedout', {}, 'timeout'), 'timed_out', 'timeout'],
    ['returns no JSON', () => ({ body: Buffer.from('{') }), 'failed', 'function_error'],
  ])('a job that %s says so', async (_what, behaviour, status, outcome) => {
    plane.behave.invocation = behaviour;
    const job = await finished(await submit({ code }));
    expect(job).toMatchObject({ status, outcome, attempts: 1, result: null, resultTruncated: false });
    expect((job.error as Body).errorMessage).toMatch(/it says why|not JSON/);
    const answer = await send('GET', `/api/jobs/${job.id}/result`);
    expect(answer.status).toBe(409);
  });

  it('code that does not parse fails its job, with the place, and is not tried again', async () => {
    const place = { file: 'job.js', line: 3, column: 9 };
    plane.behave.invocation = failure('Runtime.UserCodeSyntaxError', place);
    const job = await finished(await submit({ code, retries: 5 }));
    expect(job).toMatchObject({ status: 'failed', attempts: 1, error: { location: place } });
  });

  it('tries again as often as allowed, each time as another attempt of one execution', async () => {
    let tries = 0;
    plane.behave.invocation = () => {
      tries += 1;
      return tries < 3 ? failure('Error')() : { body: Buffer.from('"third"') };
    };
    const job = await finished(await submit({ code, retries: 2 }));
    expect(job).toMatchObject({ status: 'succeeded', attempts: 3, error: null, result: 'third' });
    expect(job.executionIds).toEqual([job.id]);
    expect(plane.invoked.map(({ request }) => [request.id, request.attempt?.epoch])).toEqual([
      [job.id, 1],
      [job.id, 2],
      [job.id, 3],
    ]);
    const { body } = await plane.call('GET', `/api/executions/${job.id}`);
    expect(body).toMatchObject({ functionName: 'job', trigger: 'job', outcome: 'success', attempts: 3, epoch: 3 });
  });

  it('an attempt that did not start does not count', async () => {
    let tries = 0;
    plane.behave.invocation = () => {
      tries += 1;
      return tries === 1 ? { outcome: 'not_started', reason: 'no room' } : { body: Buffer.from('1') };
    };
    const id = await submit({ code });
    await expect
      .poll(async () => (await plane.call('GET', `/api/jobs/${id}`)).body)
      .toMatchObject({
        status: 'queued',
        reason: 'no room',
        attempts: 0,
        executionIds: [],
        startedAt: null,
        nodeId: null,
      });
    expect(await finished(id)).toMatchObject({ status: 'succeeded', attempts: 1, reason: null });
  });

  it('lists jobs, newest first, by status and page by page', async () => {
    const mine: string[] = [];
    for (let i = 0; i < 5; i += 1) mine.unshift(await submit({ code, args: { secret: i } }));
    for (const id of mine) await finished(id);
    const first = await plane.call('GET', '/api/jobs?limit=3');
    const second = await plane.call('GET', `/api/jobs?limit=2&cursor=${first.body.nextCursor}`);
    const listed = [first, second].flatMap(({ body }) => body.jobs as Body[]);
    expect(listed.map(({ id }) => id)).toEqual(mine);
    expect(Object.keys(listed[0] ?? {})).not.toContain('code');
    expect(JSON.stringify(listed)).not.toContain('secret');
    plane.behave.invocation = failure('Error');
    const failedId = await submit({ code });
    await finished(failedId);
    const failed = await plane.call('GET', '/api/jobs?status=failed&limit=1');
    expect(failed.body.jobs).toMatchObject([{ id: failedId, status: 'failed', error: { errorType: 'Error' } }]);
    expect((await plane.call('GET', '/api/jobs?status=odd')).status).toBe(400);
    expect((await plane.call('GET', '/api/jobs?cursor=bm9uZQ')).status).toBe(400);
  });

  it('cancels a queued job at once, a running one at its node, and a finished one not', async () => {
    const { release } = hold();
    // Of the six places of jobs one lane may take four; the others stay in the queue.
    const ids: string[] = [];
    for (let i = 0; i < 6; i += 1) ids.push(await submit({ code, retries: 3 }));
    const [running = '', , , , , queued = ''] = ids;
    await expect.poll(() => plane.invoked.length).toBe(4);

    const atOnce = await plane.call('POST', `/api/jobs/${queued}/cancel`);
    const never = { executionIds: [], attempts: 0, startedAt: null };
    expect(atOnce).toMatchObject({
      status: 200,
      body: { status: 'cancelled', finishedAt: expect.any(String), ...never },
    });
    expect((await plane.call('GET', `/api/executions/${queued}`)).status).toBe(404);
    expect(await plane.call('POST', `/api/jobs/${queued}/cancel`)).toEqual(atOnce);

    await expect.poll(async () => (await plane.call('GET', `/api/jobs/${running}`)).body.status).toBe('running');
    const asked = await plane.call('POST', `/api/jobs/${running}/cancel`);
    expect(asked).toMatchObject({ status: 202, body: { status: 'running', cancelRequestedAt: expect.any(String) } });
    expect(await finished(running)).toMatchObject({ status: 'cancelled', attempts: 1, error: null, result: null });

    release();
    for (const id of ids.slice(1, 5)) expect(await finished(id)).toMatchObject({ status: 'succeeded' });
    expect(plane.invoked).toHaveLength(5);
    const late = await plane.call('POST', `/api/jobs/${ids[1]}/cancel`);
    expect(late).toMatchObject({ status: 409, body: { error: { code: 'conflict' } } });
  });

  it('a job that succeeds although it was to be cancelled has succeeded', async () => {
    let finish = (): void => {};
    plane.behave.invocation = () =>
      new Promise((resolve) => {
        finish = () => resolve({ body: Buffer.from('"done"') });
      });
    const id = await submit({ code });
    await expect.poll(async () => (await plane.call('GET', `/api/jobs/${id}`)).body.status).toBe('running');
    await plane.call('POST', `/api/jobs/${id}/cancel`);
    finish();
    expect(await finished(id)).toMatchObject({ status: 'succeeded', result: 'done' });
  });

  it('turns a project away that has too many queued, or too much', async () => {
    const { release } = hold();
    const bytes = JSON.stringify('x'.repeat(3 * MB));
    const big = () => send('POST', '/api/jobs', `{"code":"1","args":${bytes}}`);
    const ids: string[] = [];
    let refused: Response | undefined;
    for (let i = 0; i < 30 && refused === undefined; i += 1) {
      const answer = await big();
      if (answer.status === 202) ids.push(String(((await answer.json()) as Body).id));
      else refused = answer;
    }
    expect(refused?.status).toBe(429);
    expect(refused?.headers.get('retry-after')).toBe('5');
    expect(await refused?.json()).toMatchObject({ error: { code: 'throttled' } });
    // What still fits goes in, until the count is full too.
    let count: number | undefined;
    for (let i = 0; i < 30 && count === undefined; i += 1) {
      const answer = await plane.call('POST', '/api/jobs', { code });
      if (answer.status === 202) ids.push(String(answer.body.id));
      else count = answer.status;
    }
    expect(count).toBe(429);
    const own = await send('POST', '/api/jobs', JSON.stringify({ code }), strangerKey);
    expect(own.status).toBe(202);
    release();
    for (const id of ids) expect((await finished(id)).status).toBe('succeeded');
  });

  it("no route knows another project's job", async () => {
    const id = await submit({ code });
    await finished(id);
    const unknown = uuidv7();
    for (const [method, path] of [
      ['GET', ''],
      ['GET', '/result'],
      ['GET', '/logs'],
      ['POST', '/cancel'],
    ] as const) {
      const answers = [];
      for (const [key, job] of [
        [strangerKey, id],
        [strangerKey, unknown],
        [plane.key, unknown],
        [plane.key, 'no-uuid'],
      ] as const) {
        const answer = await send(method, `/api/jobs/${job}${path}`, undefined, key);
        const { error } = (await answer.json()) as { error: Body };
        answers.push({ status: answer.status, code: error.code, message: error.message });
      }
      expect(answers[0]).toMatchObject({ status: 404, code: 'job_not_found' });
      expect(new Set(answers.map((answer) => JSON.stringify(answer))).size).toBe(1);
    }
    const listed = (await (await send('GET', '/api/jobs', undefined, strangerKey)).json()) as { jobs: Body[] };
    expect(listed.jobs.map((job) => job.id)).not.toContain(id);
  });

  it('shows the log lines of the last attempt with the job, and those of all at /logs, between one START and END', async () => {
    plane.behave.invocation = async (request, spec) => {
      const attempt = plane.invoked.length;
      const row = {
        ...{
          project_id: 'default',
          function_id: spec.functionId,
          execution_id: request.id,
          version_id: spec.versionId,
        },
        ...{
          epoch: request.attempt?.epoch ?? 0,
          sequence: 1,
          at: new Date(),
          stream: 'stdout',
          level: 'INFO',
          text: `attempt ${attempt}`,
        },
      };
      await plane.postgres.database.run('log', (sql) => sql`insert into log_lines ${sql(row)}`);
      return attempt === 1 ? failure('Error')() : { body: Buffer.from('1') };
    };
    const id = await submit({ code, retries: 1 });
    const texts = (lines: unknown) => (lines as Body[]).map(({ text }) => text);
    expect(texts((await finished(id)).logs)).toEqual(['attempt 2']);
    const all = await plane.call('GET', `/api/jobs/${id}/logs`);
    const [start, ...lines] = texts(all.body.logs);
    expect(start).toContain('START RequestId');
    expect(lines.slice(0, 2)).toEqual(['attempt 1', 'attempt 2']);
    expect(lines.slice(2).map((line) => String(line).slice(0, 6))).toEqual(['END Re', 'REPORT']);
  });

  it('a wait ends when the job does, or when its time is over, and is bounded', async () => {
    const { release } = hold();
    const id = await submit({ code });
    expect((await plane.call('GET', `/api/jobs/${id}?waitMs=50`)).body.finishedAt).toBeNull();
    const waited = plane.call('GET', `/api/jobs/${id}?waitMs=30000`);
    release();
    expect((await waited).body).toMatchObject({ status: 'succeeded' });
    expect((await plane.call('GET', `/api/jobs/${id}?waitMs=30001`)).status).toBe(400);
    expect((await plane.call('GET', `/api/jobs/${uuidv7()}?waitMs=30000`)).status).toBe(404);
  });
});
