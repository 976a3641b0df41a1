import { once } from 'node:events';
import { request as httpRequest, type IncomingHttpHeaders } from 'node:http';
import { connect } from 'node:net';
import { InvokeKind } from '@lambda-fleet/proto';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { startTestControlPlane, type TestControlPlane } from './test-control-plane.js';

const code = { source: 'export const handler = async () => 1;' };

describe('invocations over HTTP', () => {
  let plane: TestControlPlane;
  beforeAll(async () => {
    plane = await startTestControlPlane();
    await plane.call('PUT', '/api/functions/greet', { code, route: 'hello' });
    await plane.call('PUT', '/api/functions/open', { code, httpAuth: 'public' });
  });
  afterAll(() => plane.close());
  beforeEach(() => {
    plane.behave.invocation = (request) => ({ body: request.payload });
    plane.invoked.length = 0;
  });

  /** `fetch` refuses to set a Host of its own. */
  const send = async (
    path: string,
    {
      method = 'GET',
      headers = {},
      body = '',
    }: { method?: string; headers?: Record<string, string>; body?: string | Buffer } = {},
  ): Promise<{ status: number; headers: IncomingHttpHeaders; text: string }> => {
    const req = httpRequest({ host: '127.0.0.1', port: plane.port, path, method, headers, agent: false });
    req.end(body);
    const [res] = await once(req, 'response');
    res.setEncoding('utf8');
    let text = '';
    for await (const chunk of res) text += chunk;
    return { status: res.statusCode, headers: res.headers, text };
  };
  const auth = () => ({ authorization: `Bearer ${plane.key}` });
  /** Writes bytes and returns everything that comes back until the server closes, or `enough` is seen. */
  const raw = async (bytes: string, enough = '\u0000'): Promise<string> => {
    const socket = connect(plane.port, '127.0.0.1');
    socket.setEncoding('utf8').write(bytes);
    let answer = '';
    // A reset after the answer is what a lying client gets.
    socket.on('error', () => undefined);
    socket.on('data', (text) => {
      answer += text;
      if (answer.includes(enough)) socket.destroy();
    });
    await once(socket, 'close');
    return answer;
  };

  it('passes the event on as it is and answers with the value and the receipt', async () => {
    const body = '{ "a" : 1e2, "b": "\u00e9" }';
    const answer = await send('/api/functions/greet/invocations', { method: 'POST', headers: auth(), body });
    expect(answer.status).toBe(200);
    expect(answer.text).toBe(body);
    expect(answer.headers).toMatchObject({
      ...{ 'content-type': 'application/json', 'x-lambda-outcome': 'success', 'x-lambda-start': 'warm' },
      ...{ 'x-lambda-version': '1', 'x-lambda-node': 'node-1' },
      'server-timing': expect.stringMatching(/^resolve;dur=[\d.]+, run;dur=1\.500, total;dur=[\d.]+$/),
    });
    const [invoked] = plane.invoked;
    expect(invoked?.request).toMatchObject({ kind: InvokeKind.EVENT, trigger: 'api', singleUse: false });
    expect(answer.headers['x-request-id']).toBe(invoked?.request.id);
    expect(invoked?.request.traceId).toMatch(/^Root=1-[0-9a-f]+-[0-9a-f]{24};Sampled=0$/);
  });

  it('a route maps the returned HTTP response; cookies become set-cookie and hop-by-hop headers go', async () => {
    const head = (name: string, value: string) => ({ name, value });
    plane.behave.invocation = () => ({
      body: Buffer.from('made'),
      http: {
        statusCode: 201,
        headers: [
          head('x-a', '1'),
          head('connection', 'close'),
          head('x-request-id', 'forged'),
          head('x-lambda-outcome', 'forged'),
        ],
        cookies: ['a=1', 'b=2; HttpOnly'],
      },
    });
    const answer = await send('/api/execute/hello', { method: 'POST', headers: { 'x-api-key': plane.key } });
    expect(answer).toMatchObject({ status: 201, text: 'made', headers: { 'x-a': '1', 'x-lambda-outcome': 'success' } });
    expect(answer.headers['set-cookie']).toEqual(['a=1', 'b=2; HttpOnly']);
    expect(answer.headers['x-request-id']).toBe(plane.invoked[0]?.request.id);
    expect(plane.invoked[0]?.request).toMatchObject({ kind: InvokeKind.HTTP, trigger: 'route' });
  });

  it.each([
    [{ outcome: 'throttled', retryAfterSeconds: 7, reason: 'two at once' }, 429, '7'],
    [{ outcome: 'not_started', reason: 'no node' }, 503, '1'],
    [{ outcome: 'outcome_unknown', reason: 'the node was lost' }, 502, undefined],
    [{ outcome: 'timeout' }, 504, undefined],
  ] as const)('%j is %i', async (result, status, retryAfter) => {
    plane.behave.invocation = () => result;
    const answer = await send('/api/functions/greet/invocations', { method: 'POST', headers: auth() });
    expect(answer.status).toBe(status);
    expect(answer.headers['retry-after']).toBe(retryAfter);
    expect(answer.headers['x-lambda-outcome']).toBe(result.outcome);
    expect(JSON.parse(answer.text)).toMatchObject({ error: { code: result.outcome } });
  });

  it("a function's own error is for the holder of a key only", async () => {
    const error = { errorType: 'Error', errorMessage: 'secret place', trace: ['at x'], file: '', line: 0, column: 0 };
    plane.behave.invocation = () => ({ outcome: 'function_error', error });
    const owner = await send('/fn/open/', { headers: auth() });
    expect(JSON.parse(owner.text)).toMatchObject({
      error: { code: 'function_error', details: { errorType: 'Error', errorMessage: 'secret place', trace: ['at x'] } },
    });
    const stranger = await send('/fn/open/');
    expect(stranger.status).toBe(502);
    expect(stranger.text).not.toContain('secret');
  });

  it('serves functions by Host and by path, and everything else not', async () => {
    const host = { host: `greet.localhost:${plane.port}` };
    plane.behave.invocation = ({ payload }) => ({ body: payload });
    const byHost = await send('/a/b?name=World', { headers: { ...host, ...auth(), 'x-own': 'kept' } });
    const event = JSON.parse(byHost.text);
    expect(event).toMatchObject({
      rawPath: '/a/b',
      rawQueryString: 'name=World',
      requestContext: { domainPrefix: 'greet' },
    });
    expect(event.headers['x-own']).toBe('kept');
    expect(byHost.text).not.toContain(plane.key);
    const byPath = await send('/fn/greet/a/b?name=World', { headers: auth() });
    expect(JSON.parse(byPath.text)).toMatchObject({ rawPath: '/a/b', rawQueryString: 'name=World' });
    // The API's paths are the function's own under its Host.
    expect(JSON.parse((await send('/api/functions', { headers: { ...host, ...auth() } })).text)).toHaveProperty(
      'rawPath',
    );
    expect((await send('/', { headers: { host: 'evil.example.com' } })).status).toBe(404);
    expect((await send('/', { headers: { host: 'nobody.localhost' } })).status).toBe(404);
    expect((await send('/healthz', { headers: { host: 'api.example.org' } })).status).toBe(200);
  });

  it('an Authorization that is not a key of ours belongs to the function', async () => {
    const answer = await send('/fn/open/', { headers: { authorization: 'Bearer its-own', cookie: 'a=1' } });
    expect(JSON.parse(answer.text)).toMatchObject({ headers: { authorization: 'Bearer its-own' }, cookies: ['a=1'] });
  });

  it('a key of ours is found beside another Authorization, and no function ever sees it', async () => {
    const headers = { authorization: 'Bearer its-own', 'x-api-key': plane.key };
    expect((await send('/api/nodes', { headers })).status).toBe(200);
    expect((await send('/fn/greet/', { headers })).status).toBe(200);
    for (const sent of [headers, { authorization: `Bearer ${plane.key}`, 'x-api-key': plane.key }]) {
      const answer = await send('/fn/open/', { headers: sent });
      expect(answer.status).toBe(200);
      expect(answer.text).not.toContain(plane.key);
    }
  });

  it.each([
    ['/api/functions/greet/invocations', 'POST', {}, 401],
    ['/api/functions/greet/invocations', 'POST', { authorization: 'Bearer lf_x' }, 401],
    ['/api/execute/hello', 'POST', { authorization: 'Basic x' }, 401],
    ['/fn/greet/', 'GET', {}, 401],
    ['/fn/open/', 'GET', {}, 200],
    ['/fn/nobody/', 'GET', {}, 404],
    ['/fn/', 'GET', {}, 404],
    ['/fn/open/%2e%2e/x', 'GET', {}, 400],
    ['/fn/open//x', 'GET', {}, 400],
    ['/api/nodes', 'GET', {}, 401],
    ['/healthz', 'GET', {}, 200],
    ['/readyz', 'GET', {}, 503],
  ])('%s %s %j answers %i', async (path, method, headers, status) => {
    const answer = await send(path, { method, headers });
    expect(answer.status).toBe(status);
    expect(answer.headers['x-request-id']).toMatch(/^[0-9a-f-]{36}$/);
  });

  it('unknown functions and routes have codes of their own', async () => {
    const byName = await send('/api/functions/none/invocations', { method: 'POST', headers: auth() });
    expect(JSON.parse(byName.text)).toMatchObject({ error: { code: 'function_not_found' } });
    const byRoute = await send('/api/execute/greet', { method: 'POST', headers: auth() });
    expect(JSON.parse(byRoute.text)).toMatchObject({ error: { code: 'route_not_found' } });
  });

  it('HEAD, 204 and 304 have no body', async () => {
    plane.behave.invocation = () => ({
      body: Buffer.from('text'),
      http: { statusCode: 200, headers: [], cookies: [] },
    });
    expect(await send('/fn/open/', { method: 'HEAD' })).toMatchObject({ text: '', headers: { 'content-length': '4' } });
    for (const statusCode of [204, 304]) {
      plane.behave.invocation = () => ({ body: Buffer.from('text'), http: { statusCode, headers: [], cookies: [] } });
      expect(await send('/fn/open/')).toMatchObject({ status: statusCode, text: '' });
    }
  });

  it.each([
    [100, []],
    [999, []],
    [200.5, []],
    [200, [{ name: 'x\r\ny', value: '1' }]],
    [200, [{ name: 'x', value: 'a\r\nset-cookie: b' }]],
  ])('a forged response head (%s, %j) is a function error and nothing of it is sent', async (statusCode, headers) => {
    plane.behave.invocation = () => ({ http: { statusCode, headers, cookies: [] } });
    const answer = await send('/fn/open/');
    expect(answer.status).toBe(502);
    expect(answer.headers).not.toHaveProperty('set-cookie');
    expect(answer.headers['x-lambda-outcome']).toBe('function_error');
  });

  it('an unexpected error is internal, its detail stays in the log', async () => {
    plane.behave.invocation = () => Promise.reject(new Error('password=1'));
    const answer = await send('/fn/open/');
    expect(answer.status).toBe(500);
    expect(answer.text).not.toContain('password');
    expect(JSON.parse(answer.text)).toMatchObject({ error: { code: 'internal' } });
  });

  const headerOf = (more: string) =>
    `POST /api/functions/greet/invocations HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: ${plane.key}\r\n${more}\r\n`;

  it('a body that is too long by its own word is refused before a byte of it is read', async () => {
    const answer = await raw(headerOf('Content-Length: 6291457\r\n'), 'payload_too_large');
    expect(answer).toMatch(/^HTTP\/1\.1 413 /);
    const expects = await raw(headerOf('Content-Length: 999999999\r\nExpect: 100-continue\r\n'), 'payload_too_large');
    expect(expects).not.toContain('100 Continue');
    expect(plane.invoked).toHaveLength(0);
  });

  it('a chunked body that grows too long is refused while it comes, and the client sees why', async () => {
    const chunk = `10000\r\n${'x'.repeat(0x10000)}\r\n`;
    const answer = await raw(headerOf('Transfer-Encoding: chunked\r\n') + chunk.repeat(97), 'payload_too_large');
    expect(answer).toMatch(/^HTTP\/1\.1 413 /);
    const complete = await send('/api/functions/greet/invocations', {
      method: 'POST',
      headers: auth(),
      body: Buffer.alloc(7_000_000),
    });
    expect(complete.status).toBe(413);
    expect(plane.invoked).toHaveLength(0);
  });

  it('a body of exactly 6 MB goes through', async () => {
    const body = Buffer.alloc(6 * 1024 * 1024, 'x');
    plane.behave.invocation = ({ payload }) => ({ body: Buffer.from(String(payload.length)) });
    const answer = await send('/api/functions/greet/invocations', { method: 'POST', headers: auth(), body });
    expect(answer.text).toBe(String(body.length));
    // In an HTTP event it would grow beyond that.
    expect((await send('/fn/open/', { method: 'POST', body })).status).toBe(413);
  });

  it.each([
    ['Content-Length: 4\r\nTransfer-Encoding: chunked\r\n', '400'],
    ['Content-Length: 4\r\nContent-Length: 5\r\n', '400'],
    ['Content-Length: -1\r\n', '400'],
    ['Bad Header: x\r\n', '400'],
    [`X-Long: ${'x'.repeat(40_000)}\r\n`, '431'],
  ])('a malformed request (%s) is answered in the common form', async (more, status) => {
    const answer = await raw(headerOf(more));
    expect(answer).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
    expect(answer).toContain('"code":"invalid_request"');
    expect(plane.invoked).toHaveLength(0);
  });

  it('a client that leaves in the middle of its body leaves nothing behind', async () => {
    const socket = connect(plane.port, '127.0.0.1');
    socket.write(`${headerOf('Content-Length: 1000\r\n')}half`);
    await once(socket, 'connect');
    socket.destroy();
    await once(socket, 'close');
    expect((await send('/api/functions/greet/invocations', { method: 'POST', headers: auth() })).status).toBe(200);
    expect(plane.invoked).toHaveLength(1);
  });

  it('a client that leaves before the result does not disturb the invocation or the server', async () => {
    let finish = (): void => {};
    const running = new Promise<void>((resolve) => {
      plane.behave.invocation = async () => {
        resolve();
        await new Promise<void>((done) => {
          finish = done;
        });
        return { body: Buffer.alloc(3_000_000, 'x') };
      };
    });
    const socket = connect(plane.port, '127.0.0.1');
    socket.write(`${headerOf('Content-Length: 2\r\n')}{}`);
    await running;
    socket.destroy();
    await once(socket, 'close');
    finish();
    plane.behave.invocation = ({ payload }) => ({ body: payload });
    expect((await send('/api/functions/greet/invocations', { method: 'POST', headers: auth() })).status).toBe(200);
  });

  it.each(['%00', 'a%00b', '%ff', '%', 'x'.repeat(5_000)])('the name "%s" is nobody', async (name) => {
    for (const path of [`/api/functions/${name}`, `/api/functions/${name}/logs`]) {
      expect((await send(path, { headers: auth() })).status).toBe(404);
    }
    expect((await send(`/api/functions/${name}/invocations`, { method: 'POST', headers: auth() })).status).toBe(404);
    expect((await send(`/api/executions?function=${name}`, { headers: auth() })).status).toBe(400);
  });

  it('answers HTTP/1.0 without a Host, and says what is wrong with HTTP/1.1 without one', async () => {
    expect(await raw('GET /healthz HTTP/1.0\r\n\r\n')).toMatch(/^HTTP\/1.1 200 [\s\S]*healthy/);
    const refused = await raw('GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n');
    expect(refused).toMatch(/^HTTP\/1.1 400 [\s\S]*x-request-id[\s\S]*invalid_request[\s\S]*Host/i);
  });

  it('refuses an expectation that it does not understand, in the form of every error', async () => {
    const answer = await raw('GET /healthz HTTP/1.1\r\nHost: localhost\r\nExpect: banana\r\n\r\n');
    expect(answer).toMatch(/^HTTP\/1.1 417 [\s\S]*x-request-id[\s\S]*invalid_request/i);
  });

  it('says which methods are allowed where one is not', async () => {
    const answer = await fetch(`${plane.url}/api/functions/greet/invocations`, { method: 'DELETE' });
    expect([answer.status, answer.headers.get('allow')]).toEqual([405, 'POST']);
    expect(await answer.json()).toMatchObject({ error: { code: 'method_not_allowed' } });
  });

  it('finds a function whose name comes percent-encoded', async () => {
    await plane.call('PUT', '/api/functions/plain', { code: { source: 'x' } });
    expect((await plane.call('POST', '/api/functions/%70lain/invocations', { a: 1 })).body).toEqual({ a: 1 });
    expect((await plane.call('POST', '/api/functions/%zz/invocations', {})).status).toBe(404);
  });

  it('requests on one connection are answered one after the other', async () => {
    const get = 'GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n';
    const last = 'GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n';
    const answer = await raw(`${get}${headerOf('Content-Length: 2\r\n')}{}${last}`);
    expect(answer.match(/HTTP\/1\.1 200/g)).toHaveLength(3);
  });

  it('known functions answer while the database is away', async () => {
    const post = () => send('/api/functions/greet/invocations', { method: 'POST', headers: auth() });
    await post();
    await plane.postgres.restart(async () => {
      expect((await post()).status).toBe(200);
      const created = await plane.call('PUT', '/api/functions/late', { code });
      expect(created).toMatchObject({ status: 503, body: { error: { code: 'unavailable' } } });
    });
    await expect
      .poll(async () => (await plane.call('PUT', '/api/functions/late', { code })).status, { timeout: 10_000 })
      .toBe(201);
  });

  it('measures requests by route', async () => {
    const { text } = await send('/metrics');
    expect(text).toMatch(
      /lambda_http_request_duration_seconds_count\{[^}]*route="\/api\/functions\/:name\/invocations"[^}]*\}/,
    );
    expect(text).toContain('process_cpu_seconds_total');
  });
});
