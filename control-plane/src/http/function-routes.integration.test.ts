import { randomBytes } from 'node:crypto';
import { strToU8, zipSync } from 'fflate';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { startTestControlPlane, type TestControlPlane } from './test-control-plane.js';

const SOURCE = 'export const handler = async () => 1;';
const code = { source: SOURCE };
const zip = (files: Record<string, string>): Buffer =>
  Buffer.from(zipSync(Object.fromEntries(Object.entries(files).map(([name, text]) => [name, strToU8(text)]))));

describe('the functions API', () => {
  let plane: TestControlPlane;
  beforeAll(async () => {
    plane = await startTestControlPlane();
  });
  afterAll(() => plane.close());
  beforeEach(() => {
    plane.behave.check = () => ({});
    plane.behave.invocation = (request) => ({ body: request.payload });
    plane.invoked.length = 0;
    plane.forgotten.length = 0;
  });
  const failure =
    (errorType: string, more: object = {}) =>
    () => ({
      outcome: 'function_error' as const,
      error: { errorType, errorMessage: 'it says why', trace: [], file: '', line: 0, column: 0, ...more },
    });
  const artifactCount = async (): Promise<number> => {
    const [row] = await plane.postgres.database.run(
      'count',
      (sql) => sql<{ n: number }[]>`select count(*) as n from artifacts`,
    );
    return row?.n ?? -1;
  };

  it('creates, shows, lists, changes, replaces and deletes a function', async () => {
    const created = await plane.call('POST', '/api/functions', { name: 'life', code, environment: { A: '1' } });
    expect(created.status).toBe(201);
    expect(created.body).toMatchObject({
      ...{ name: 'life', route: 'life', httpAuth: 'key', version: 1, runtime: 'nodejs', handler: 'index.handler' },
      ...{ memoryMb: 512, cpus: 1, environment: { A: '1' }, url: `http://life.localhost:${plane.port}/` },
    });
    expect(created.body.codeSha256).toMatch(/^[0-9a-f]{64}$/);
    expect(await plane.call('GET', '/api/functions/life')).toEqual({ status: 200, body: created.body });

    const changed = await plane.call('PATCH', '/api/functions/life', { memoryMb: 128 });
    expect(changed.body).toMatchObject({ version: 2, memoryMb: 128, environment: { A: '1' }, id: created.body.id });
    expect(changed.body.codeSha256).toBe(created.body.codeSha256);

    const replaced = await plane.call('PUT', '/api/functions/life', { code: { source: `${SOURCE}//` }, cpus: 2 });
    expect(replaced).toMatchObject({ status: 200, body: { version: 3, memoryMb: 128, cpus: 2 } });
    expect(replaced.body.codeSha256).not.toBe(created.body.codeSha256);
    const checked = plane.invoked.map(({ spec }) => spec.versionId);
    expect(plane.forgotten).toEqual(checked.slice(0, 2));

    expect(await plane.call('DELETE', '/api/functions/life')).toEqual({ status: 204, body: {} });
    expect(plane.forgotten.slice(2).sort()).toEqual([...checked].sort());
    expect((await plane.call('GET', '/api/functions/life')).body).toMatchObject({
      error: { code: 'function_not_found' },
    });
    expect((await plane.call('DELETE', '/api/functions/life')).status).toBe(404);
  });

  it('keeps the labels that a node must have with each version', async () => {
    const labels = { zone: 'a', disk: 'ssd' };
    const created = await plane.call('POST', '/api/functions', { name: 'labelled', labels, code });
    expect(created).toMatchObject({ status: 201, body: { labels } });
    expect((await plane.call('PATCH', '/api/functions/labelled', { cpus: 2 })).body).toMatchObject({ labels });
    const changed = await plane.call('PATCH', '/api/functions/labelled', { labels: {} });
    expect(changed.body.labels).toEqual({});
  });

  it('PUT creates a function that does not exist, and needs code for it', async () => {
    const refused = await plane.call('PUT', '/api/functions/fresh', { memoryMb: 128 });
    expect(refused).toMatchObject({ status: 400, body: { error: { details: { field: 'code' } } } });
    expect((await plane.call('PUT', '/api/functions/fresh', { code })).status).toBe(201);
    expect((await plane.call('PUT', '/api/functions/fresh', { memoryMb: 128 })).status).toBe(200);
    expect((await plane.call('PUT', '/api/functions/fresh', { name: 'other', code })).status).toBe(400);
  });

  it('the same source makes the same archive, whenever it is deployed', async () => {
    const [first, second] = await Promise.all([
      plane.call('PUT', '/api/functions/same-1', { code }),
      plane.call('PUT', '/api/functions/same-2', { code }),
    ]);
    expect(first.body.codeSha256).toBe(second.body.codeSha256);
  });

  it('a name or route that is taken is a conflict, also when both deploys are checked at the same time', async () => {
    const both = await Promise.all([1, 2].map(() => plane.call('POST', '/api/functions', { name: 'twice', code })));
    expect(both.map(({ status }) => status).sort()).toEqual([201, 409]);
    const again = await plane.call('POST', '/api/functions', { name: 'twice', code });
    expect(again.body).toMatchObject({ error: { code: 'conflict', details: { field: 'name' } } });
    const route = await plane.call('POST', '/api/functions', { name: 'thrice', route: 'twice', code });
    expect(route.body).toMatchObject({ error: { code: 'conflict', details: { field: 'route' } } });
    expect((await plane.call('GET', '/api/functions/thrice')).status).toBe(404);
    const patches = await Promise.all(
      [64, 65, 66].map((memoryMb) => plane.call('PATCH', '/api/functions/twice', { memoryMb })),
    );
    expect(patches.filter(({ status }) => status === 200).length).toBeGreaterThanOrEqual(1);
    expect(patches.every(({ status }) => status === 200 || status === 409)).toBe(true);
  });

  it('nobody sees a version before it was checked', async () => {
    const seen: number[] = [];
    plane.behave.check = async () => {
      seen.push((await plane.call('GET', '/api/functions/unseen')).status);
      return {};
    };
    await plane.call('POST', '/api/functions', { name: 'unseen', code });
    expect(seen).toEqual([404]);
  });

  it('code that does not parse is refused with its place, and leaves nothing behind', async () => {
    const before = await artifactCount();
    plane.behave.check = failure('Runtime.UserCodeSyntaxError', { file: 'index.mjs', line: 3, column: 7 });
    const refused = await plane.call('POST', '/api/functions', { name: 'broken', code: { source: 'const = ;' } });
    expect(refused).toMatchObject({
      status: 400,
      body: { error: { code: 'code_syntax_error', details: { file: 'index.mjs', line: 3, column: 7 } } },
    });
    expect(plane.forgotten).toEqual([plane.invoked[0]?.spec.versionId]);
    expect(await artifactCount()).toBe(before);
    expect((await plane.call('GET', '/api/functions/broken')).status).toBe(404);
  });

  it.each([
    ["Couldn't find valid bootstrap(s): [/var/task/bootstrap]", 'needs a file named bootstrap at its root'],
    ['fork/exec /var/task/bootstrap: permission denied', 'chmod +x bootstrap'],
    ['fork/exec /var/task/bootstrap: exec format error', 'a program for Linux'],
    ['fork/exec /var/task/bootstrap: no such file or directory', 'interpreter'],
    ['chdir: something else', 'The program cannot be started: chdir: something else.'],
  ])('says of a program that cannot be started (%s) what to do', async (errorMessage, advice) => {
    plane.behave.check = failure('Runtime.InvalidEntrypoint', { errorMessage });
    const answer = await plane.call('POST', '/api/functions', { name: 'program', code, runtime: 'provided' });
    expect(answer).toMatchObject({ status: 400, body: { error: { code: 'handler_not_found' } } });
    expect(answer.body).toMatchObject({ error: { message: expect.stringContaining(advice) } });
  });

  it.each([
    ['Runtime.HandlerNotFound', 'index.handler', 400],
    ['Runtime.MalformedHandlerName', 'handler', 400],
    ['Runtime.InvalidEntrypoint', 'bootstrap', 400],
    ['Runtime.ImportModuleError', 'missing.handler', 400],
    ['Runtime.ImportModuleError', 'index.handler', 201],
    ['ReferenceError', 'index.handler', 201],
    ['Runtime.OutOfMemory', 'index.handler', 201],
  ])('%s with handler %s answers %i', async (errorType, handler, status) => {
    plane.behave.check = failure(errorType);
    const name = `check-${randomBytes(4).toString('hex')}`;
    const answer = await plane.call('POST', '/api/functions', { name, code, handler });
    expect(answer.status).toBe(status);
    if (status === 400) expect(answer.body).toMatchObject({ error: { code: 'handler_not_found' } });
    else expect(answer.body.warnings).toEqual([expect.stringContaining('it says why')]);
  });

  it('an init timeout is a warning; no node to check is an error that can be retried', async () => {
    plane.behave.check = () => ({ outcome: 'timeout' });
    const slow = await plane.call('POST', '/api/functions', { name: 'slow', code });
    expect(slow.body.warnings).toEqual([expect.stringContaining('10000 ms')]);
    plane.behave.check = () => ({ outcome: 'not_started', reason: 'no node offers python3.11' });
    const none = await plane.call('PATCH', '/api/functions/slow', { runtime: 'python3.11' });
    expect(none).toMatchObject({ status: 503, body: { error: { code: 'not_started' } } });
    expect(JSON.stringify(none.body)).toContain('no node offers python3.11');
    expect((await plane.call('GET', '/api/functions/slow')).body.version).toBe(1);
  });

  it.each(['application/zip', 'application/gzip'])('takes an archive as %s', async (type) => {
    await plane.call('PUT', '/api/functions/upload', { code });
    const response = await fetch(`${plane.url}/api/functions/upload/code`, {
      method: 'PUT',
      headers: { 'x-api-key': plane.key, 'content-type': type },
      body: zip({ 'index.mjs': `${SOURCE} // ${type}` }),
    });
    expect(response.status).toBe(200);
  });

  it('takes a definition and an archive as a form, and base64 in JSON', async () => {
    const archive = zip({ 'index.mjs': SOURCE });
    const form = new FormData();
    form.append('definition', JSON.stringify({ name: 'form', memoryMb: 256 }));
    form.append('archive', new Blob([archive]), 'code.zip');
    const response = await fetch(`${plane.url}/api/functions`, {
      method: 'POST',
      headers: { 'x-api-key': plane.key },
      body: form,
    });
    expect(response.status).toBe(201);
    expect(await response.json()).toMatchObject({ memoryMb: 256, codeBytes: archive.length });
    const json = await plane.call('PUT', '/api/functions/form', { code: { zip: archive.toString('base64') } });
    expect(json.body).toMatchObject({ version: 2, codeBytes: archive.length });
  });

  it.each([
    ['a file that ends too early', 'Content-Disposition: form-data; name="archive"; filename="a.zip"\r\n\r\nPK'],
    ['a header that ends too early', 'Content-Disposition: form-data; name="arch'],
    ['nothing', ''],
    ['a part of another name', 'Content-Disposition: form-data; name="extra"\r\n\r\n1\r\n--x--'],
    [
      'more parts than two',
      `${'Content-Disposition: form-data; name="definition"\r\n\r\n{}\r\n--x\r\n'.repeat(6)}--x--`,
    ],
  ])('a form with %s is malformed, and nothing else happens', async (_what, part) => {
    const response = await fetch(`${plane.url}/api/functions/upload`, {
      method: 'PUT',
      headers: { 'x-api-key': plane.key, 'content-type': 'multipart/form-data; boundary=x' },
      body: `--x\r\n${part}`,
    });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ error: { code: 'invalid_request' } });
    expect((await plane.call('GET', '/healthz')).status).toBe(200);
  });

  it.each([
    ['not an archive', Buffer.from('hello'), 400, 'invalid_archive'],
    ['a path that leaves its folder', zip({ '../evil.mjs': 'x' }), 400, 'invalid_archive'],
    ['51 MB', Buffer.alloc(51 * 1024 * 1024), 413, 'archive_too_large'],
  ])('refuses %s', async (_, body, status, errorCode) => {
    await plane.call('PUT', '/api/functions/upload', { code });
    const response = await fetch(`${plane.url}/api/functions/upload/code`, {
      method: 'PUT',
      headers: { 'x-api-key': plane.key, 'content-type': 'application/zip' },
      body,
    });
    expect(response.status).toBe(status);
    expect(await response.json()).toMatchObject({ error: { code: errorCode } });
    const form = new FormData();
    form.append('definition', '{}');
    form.append('archive', new Blob([body]), 'code.zip');
    const multipart = await fetch(`${plane.url}/api/functions/upload`, {
      method: 'PUT',
      headers: { 'x-api-key': plane.key },
      body: form,
    });
    expect(multipart.status).toBe(status);
    expect(await multipart.json()).toMatchObject({ error: { code: errorCode } });
  });

  it.each([
    ['POST', '/api/functions', { name: 'a b', code }, 'invalid_name'],
    ['POST', '/api/functions', { code }, 'invalid_request'],
    ['POST', '/api/functions', { name: 'x' }, 'invalid_request'],
    ['POST', '/api/functions', { name: 'x', code, runtime: 'cobol' }, 'unsupported_runtime'],
    ['POST', '/api/functions', { name: 'x', code: { zip: '!!!!' } }, 'invalid_archive'],
    ['PUT', '/api/functions/a%20b', { code }, 'invalid_name'],
    ['PATCH', '/api/functions/nobody', {}, 'function_not_found'],
    ['PATCH', '/api/functions/nobody', { name: 'x' }, 'invalid_request'],
    ['GET', '/api/functions?limit=0', undefined, 'invalid_request'],
    ['GET', '/api/functions?cursor=%25', undefined, 'invalid_request'],
    ['GET', '/api/nothing', undefined, 'route_not_found'],
    ['POST', '/api/functions/x', {}, 'method_not_allowed'],
    ['GET', '/api/functions/x/invocations', undefined, 'method_not_allowed'],
  ])('%s %s %j is refused as %s', async (method, path, body, errorCode) => {
    const answer = await plane.call(method, path, body);
    expect(answer.body).toMatchObject({
      error: { code: errorCode, requestId: expect.stringMatching(/^[0-9a-f-]{36}$/) },
    });
  });

  it('JSON that is malformed, very deep or not JSON at all is refused and harms nothing', async () => {
    const post = async (body: string, type = 'application/json', path = '/api/functions') => {
      const headers = { 'x-api-key': plane.key, 'content-type': type };
      const response = await fetch(plane.url + path, { method: 'POST', headers, body });
      return response.status;
    };
    expect(await post('{')).toBe(400);
    expect(await post('[]')).toBe(400);
    expect(await post('x=1', 'application/x-www-form-urlencoded')).toBe(415);
    const deep = `${'['.repeat(100_000)}${']'.repeat(100_000)}`;
    expect(await post(deep)).toBe(400);
    expect(await post(`{"name":"x","environment":${deep}}`)).toBe(400);
    expect(await post(`{"code":{"source":"x"},"event":${deep}}`, undefined, '/api/functions/test')).toBe(400);
    expect((await plane.call('GET', '/api/functions')).status).toBe(200);
  });

  it('lists by name, page by page, every function once', async () => {
    for (const name of ['list-b', 'list-A', 'list-c', 'list_d'])
      await plane.call('PUT', `/api/functions/${name}`, { code });
    const names: unknown[] = [];
    let cursor: unknown = '';
    do {
      const page = await plane.call('GET', `/api/functions?limit=2&cursor=${cursor}`);
      names.push(...(page.body.functions as { name: string }[]).map(({ name }) => name));
      cursor = page.body.nextCursor;
    } while (cursor !== null);
    expect(names).toEqual([...names].sort());
    expect(names).toEqual(expect.arrayContaining(['list-b', 'list-A', 'list-c', 'list_d']));
    expect(new Set(names).size).toBe(names.length);
  });

  it('a test run answers with result and logs, and keeps nothing', async () => {
    const before = await artifactCount();
    plane.behave.invocation = (request) => {
      const line = { executionId: request.id, at: new Date(), level: 'INFO', stream: 'stdout' as const };
      expect(plane.capture.offer({ ...line, sequence: 2, text: 'second' })).toBe(true);
      expect(plane.capture.offer({ ...line, sequence: 1, text: 'first' })).toBe(true);
      return { body: Buffer.from(`{"got":${request.payload}}`) };
    };
    const run = await plane.call('POST', '/api/functions/test', { code, event: { a: 1 }, memoryMb: 128 });
    expect(run.status).toBe(200);
    expect(run.body).toMatchObject({ outcome: 'success', body: '{"got":{"a":1}}', receipt: { start: 'warm' } });
    expect((run.body.logs as { text: string }[]).map(({ text }) => text)).toEqual(['first', 'second']);
    expect(plane.invoked).toMatchObject([{ request: { trigger: 'test', singleUse: true }, spec: { memoryMb: 128 } }]);
    expect(plane.forgotten).toEqual([plane.invoked[0]?.spec.versionId]);
    expect(await artifactCount()).toBe(before);

    plane.behave.invocation = failure('TypeError');
    const failed = await plane.call('POST', '/api/functions/test', { code, http: true });
    expect(failed.body).toMatchObject({ outcome: 'function_error', error: { errorType: 'TypeError' } });
    expect(await artifactCount()).toBe(before);
  });

  it('a test run of code that a function uses leaves the function its code', async () => {
    const created = await plane.call('PUT', '/api/functions/shared', { code: { source: `${SOURCE} // shared` } });
    await plane.call('POST', '/api/functions/test', { code: { source: `${SOURCE} // shared` } });
    const again = await plane.call('PATCH', '/api/functions/shared', { memoryMb: 64 });
    expect(again.body.codeSha256).toBe(created.body.codeSha256);
  });
});
