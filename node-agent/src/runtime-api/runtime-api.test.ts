import { Agent, request as httpRequest, type IncomingHttpHeaders, type OutgoingHttpHeaders } from 'node:http';
import { type Duplex, duplexPair } from 'node:stream';
import { RESPONSE_BYTES_MAX } from '@lambda-fleet/common/limits';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { InvokeMessage, InvokeResult } from '../channel/conversation.js';
import { RuntimeApi } from './runtime-api.js';

const BASE = '/2018-06-01/runtime';
const message = (id: string, more: Partial<InvokeMessage> = {}): InvokeMessage => ({
  id,
  deadlineMs: 1_700_000_000_000,
  arn: 'arn:aws:lambda:local:000000000000:function:f',
  traceId: '',
  clientContext: '',
  http: false,
  ...more,
});

interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
}

let api: RuntimeApi;
let seen: string[];
let charged: number;
let connections: Duplex[];

function open(concurrency = 1): void {
  seen = [];
  charged = 0;
  connections = [];
  api = new RuntimeApi({
    concurrency,
    ready: () => seen.push('ready'),
    initFailed: (error) => seen.push(`init failed: ${error.errorType}: ${error.errorMessage}`),
    violated: (reason) => seen.push(`violated: ${reason}`),
    charge: (bytes) => {
      charged += bytes;
    },
  });
}

beforeEach(() => open());
afterEach(() => {
  api.close(undefined);
  for (const connection of connections) connection.destroy();
});

/** The program's end of a new connection. */
function connect(): Duplex {
  const [server, client] = duplexPair();
  connections.push(client);
  client.on('error', () => {});
  // The pair passes ends on, and not that one side is destroyed.
  client.once('close', () => server.destroy());
  server.once('close', () => {
    if (!server.writableFinished) client.destroy();
  });
  api.serve(server);
  return client;
}

interface CallOptions {
  readonly headers?: OutgoingHttpHeaders;
  readonly trailers?: Readonly<Record<string, string>>;
  readonly connection?: Duplex;
  readonly agent?: Agent;
}

function call(method: string, path: string, body: string | Buffer = '', options: CallOptions = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const { agent } = options;
    const how = agent === undefined ? { createConnection: () => options.connection ?? connect() } : { agent };
    const request = httpRequest(
      {
        method,
        path: path.startsWith('/') ? path : `${BASE}/${path}`,
        headers: options.headers,
        ...how,
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk) => chunks.push(chunk));
        response.on('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            text: Buffer.concat(chunks).toString(),
          }),
        );
        response.on('error', reject);
      },
    );
    request.on('error', reject);
    if (options.trailers !== undefined) {
      request.setHeader('Trailer', Object.keys(options.trailers).join());
      request.write(body);
      request.addTrailers(options.trailers);
      request.end();
    } else {
      request.end(body);
    }
  });
}

function next(): Promise<Answer> {
  const answer = call('GET', 'invocation/next');
  answer.catch(() => {});
  return answer;
}

/** Whoever awaits it is told of a rejection; a test that does not is over. */
function invoke(id: string, event = '{}', more: Partial<InvokeMessage> = {}): Promise<InvokeResult> {
  const result = api.invoke(message(id, more), Buffer.from(event), () => {});
  result.catch(() => {});
  return result;
}
const refusal = (status: number, errorType: string, errorMessage?: string) => ({
  status,
  text: expect.stringContaining(`"errorType":"${errorType}"`),
  ...(errorMessage === undefined ? {} : { text: `${JSON.stringify({ errorMessage, errorType })}\n` }),
});
const forbidden = (from: string, to: string) =>
  refusal(
    403,
    'InvalidStateTransition',
    `State transition from ${from} to ${to} failed for runtime. Error: State transition is not allowed`,
  );

/** An invocation that the program has and has not answered. */
async function running(
  id = 'a',
  more: Partial<InvokeMessage> = {},
): Promise<{ readonly result: Promise<InvokeResult> }> {
  const result = invoke(id, '{}', more);
  expect((await next()).headers['lambda-runtime-aws-request-id']).toBe(id);
  return { result };
}

describe('next', () => {
  test('blocks until there is an event, and gives it with its headers', async () => {
    const waiting = next();
    await expect.poll(() => seen).toEqual(['ready']);
    let written = 0;
    const result = api.invoke(
      message('the-id', { traceId: 'Root=1-2', clientContext: '{\n"custom":{"name":"Zoë 😀"}}' }),
      Buffer.from('{"n":1}'),
      () => {
        written += 1;
      },
    );
    const { status, headers, text } = await waiting;
    expect([status, text]).toEqual([200, '{"n":1}']);
    expect(headers).toMatchObject({
      'content-type': 'application/json',
      'lambda-runtime-aws-request-id': 'the-id',
      'lambda-runtime-deadline-ms': '1700000000000',
      'lambda-runtime-invoked-function-arn': 'arn:aws:lambda:local:000000000000:function:f',
      'lambda-runtime-trace-id': 'Root=1-2',
    });
    expect(JSON.parse(String(headers['lambda-runtime-client-context']))).toEqual({ custom: { name: 'Zoë 😀' } });
    await expect.poll(() => written).toBe(1);
    expect(await call('POST', 'invocation/the-id/response', '{"ok":true}')).toMatchObject({
      status: 202,
      text: '{"status":"OK"}\n',
    });
    expect(await result).toEqual({ kind: 'response', body: Buffer.from('{"ok":true}'), http: undefined });
    expect(seen).toEqual(['ready']);
  });

  test('gives an event that came before it, without headers that have no value; an empty event is {}', async () => {
    void invoke('a', '');
    const { text, headers } = await next();
    expect(text).toBe('{}');
    expect(headers).not.toHaveProperty('lambda-runtime-trace-id');
    expect(headers).not.toHaveProperty('lambda-runtime-client-context');
  });

  test('again, before the event is answered, gives the same event, whose time goes on', async () => {
    let written = 0;
    void api
      .invoke(message('a'), Buffer.from('1'), () => {
        written += 1;
      })
      .catch(() => {});
    expect((await next()).text).toBe('1');
    expect((await next()).text).toBe('1');
    await expect.poll(() => charged).toBeGreaterThan(0);
    expect(written).toBe(1);
  });

  test('whose connection broke while it waited gets no event; the next one does', async () => {
    const lost = connect();
    const broken = call('GET', 'invocation/next', '', { connection: lost });
    await expect.poll(() => seen).toEqual(['ready']);
    lost.destroy();
    await expect(broken).rejects.toThrow();
    await new Promise((resolve) => setImmediate(resolve));
    void invoke('a', '"kept"');
    expect((await next()).text).toBe('"kept"');
  });

  test('whose connection breaks before all of the event was taken leaves it to the next one', async () => {
    const lost = connect();
    lost.write(`GET ${BASE}/invocation/next HTTP/1.1\r\nhost: x\r\n\r\n`);
    await expect.poll(() => seen).toEqual(['ready']);
    const event = JSON.stringify('x'.repeat(1_000_000));
    const result = invoke('a', event);
    result.catch(() => {});
    const waiting = next();
    await new Promise((resolve) => setImmediate(resolve));
    lost.destroy();
    expect((await waiting).text).toBe(event);
  });

  test('is refused after an init error, and while an answer arrives', async () => {
    await call('POST', 'init/error', '{}');
    expect(await next()).toMatchObject(forbidden('InitError', 'Ready'));
    open();
    const { result } = await running();
    const slow = connect();
    slow.write(`POST ${BASE}/invocation/a/response HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n1`);
    await expect.poll(async () => (await next()).status).toBe(403);
    expect(await next()).toMatchObject(forbidden('InvocationResponse', 'Ready'));
    expect(await call('POST', 'invocation/a/error', '{}')).toMatchObject(
      forbidden('InvocationResponse', 'InvocationErrorResponse'),
    );
    expect(await call('POST', 'init/error', '{}')).toMatchObject(forbidden('InvocationResponse', 'InitError'));
    slow.write('2');
    expect(await result).toMatchObject({ kind: 'response', body: Buffer.from('12') });
  });
});

describe('an answer', () => {
  test('for an id that is not running is refused', async () => {
    expect(await call('POST', 'invocation/x/response', '1')).toMatchObject(
      refusal(400, 'InvalidRequestID', 'Invalid request ID'),
    );
    // Not given to the program yet.
    void invoke('queued');
    expect(await call('POST', 'invocation/queued/response', '1')).toMatchObject(refusal(400, 'InvalidRequestID'));
    expect(await call('POST', 'invocation/queued/error', '1')).toMatchObject(refusal(400, 'InvalidRequestID'));
  });

  test('a second time is refused: by state until the program asks again, by its id afterwards', async () => {
    const { result } = await running();
    await call('POST', 'invocation/a/response', '1');
    expect(await result).toMatchObject({ kind: 'response' });
    expect(await call('POST', 'invocation/a/response', '2')).toMatchObject(
      forbidden('RuntimeResponseSentState', 'InvocationResponse'),
    );
    expect(await call('POST', 'init/error', '{}')).toMatchObject(forbidden('RuntimeResponseSentState', 'InitError'));
    void next().catch(() => {});
    await expect.poll(async () => (await call('POST', 'invocation/a/error', '2')).status).toBe(400);
  });

  test('may have as many bytes as a response may, and is refused with one more', async () => {
    const { result } = await running();
    const largest = Buffer.alloc(RESPONSE_BYTES_MAX, 'x');
    expect((await call('POST', 'invocation/a/response', largest)).status).toBe(202);
    const got = await result;
    expect(got.kind === 'response' && got.body.equals(largest)).toBe(true);
    for (const chunked of [false, true]) {
      const { result: over } = await running('b');
      const headers = chunked
        ? { 'transfer-encoding': 'chunked', 'lambda-runtime-function-response-mode': 'streaming' }
        : {};
      const refused = await call('POST', 'invocation/b/response', Buffer.alloc(RESPONSE_BYTES_MAX + 1), { headers });
      expect(refused).toMatchObject(
        refusal(413, 'RequestEntityTooLarge', `Exceeded maximum allowed payload size (${RESPONSE_BYTES_MAX} bytes).`),
      );
      expect(await over).toMatchObject({ kind: 'error', error: { errorType: 'Function.ResponseSizeTooLarge' } });
      // It may go on.
      open();
    }
  });

  test('that comes byte by byte costs no more than its bytes', async () => {
    const { result } = await running();
    const connection = connect();
    connection.write(`POST ${BASE}/invocation/a/response HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n`);
    const before = process.memoryUsage().arrayBuffers;
    for (let i = 0; i < 20_000; i += 1) connection.write('1\r\nx\r\n');
    connection.write('0\r\n\r\n');
    const got = await result;
    expect(got.kind === 'response' && got.body.length).toBe(20_000);
    expect(got.kind === 'response' && got.body.buffer.byteLength).toBe(20_000);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(8 * 1024 * 1024);
  });

  test('that ends too early is an error, and says so where somebody is left to hear it', async () => {
    const { result } = await running();
    const cut = connect();
    let heard = '';
    cut.on('data', (chunk) => {
      heard += chunk;
    });
    cut.end(`POST ${BASE}/invocation/a/response HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nshort`);
    expect(await result).toMatchObject({ kind: 'error', error: { errorType: 'Runtime.TruncatedResponse' } });
    await expect.poll(() => heard).toContain('"errorType":"TruncatedHTTPRequest"');
    expect(heard).toMatch(/^HTTP\/1\.1 400 /);
    open();
    const { result: gone } = await running();
    const broken = connect();
    broken.write(
      `POST ${BASE}/invocation/a/response HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n`,
    );
    await expect.poll(async () => (await next()).status).toBe(403);
    broken.destroy();
    expect(await gone).toMatchObject({ kind: 'error', error: { errorType: 'Runtime.TruncatedResponse' } });
  });

  test('in a mode that does not exist is refused', async () => {
    const { result } = await running();
    const headers = { 'lambda-runtime-function-response-mode': 'telepathic' };
    expect(await call('POST', 'invocation/a/response', '1', { headers })).toMatchObject(
      refusal(400, 'InvalidFunctionResponseMode', 'Invalid function response mode'),
    );
    expect(await result).toMatchObject({ kind: 'error', error: { errorType: 'Runtime.InvalidResponseModeHeader' } });
  });
});

describe('a streamed answer', () => {
  const streaming = { 'lambda-runtime-function-response-mode': 'streaming', 'transfer-encoding': 'chunked' };

  test('is collected', async () => {
    const { result } = await running();
    expect(await call('POST', 'invocation/a/response', 'parts', { headers: streaming })).toMatchObject({ status: 202 });
    expect(await result).toMatchObject({ kind: 'response', body: Buffer.from('parts') });
  });

  test('with an error behind it is that error', async () => {
    const { result } = await running();
    const body = Buffer.from('{"errorMessage":"broke","errorType":"Broken","stackTrace":["at a"]}').toString('base64');
    const trailers = {
      'Lambda-Runtime-Function-Error-Type': 'Function.Broken',
      'Lambda-Runtime-Function-Error-Body': body,
    };
    expect(await call('POST', 'invocation/a/response', 'half', { headers: streaming, trailers })).toMatchObject({
      status: 202,
    });
    expect(await result).toEqual({
      kind: 'error',
      error: { errorType: 'Broken', errorMessage: 'broke', trace: ['at a'], exiting: false },
    });
  });

  test('with a head of its own becomes an HTTP response for HTTP invocations only', async () => {
    const type = { ...streaming, 'content-type': 'application/vnd.awslambda.http-integration-response' };
    const bytes = Buffer.from(
      '{"statusCode":418,"headers":{"X-Tea":"yes"},"cookies":["a=b"]}\0\0\0\0\0\0\0\0body\0more',
    );
    const { result } = await running('a', { http: true });
    await call('POST', 'invocation/a/response', bytes, { headers: type });
    expect(await result).toEqual({
      kind: 'response',
      http: {
        statusCode: 418,
        headers: [
          ['x-tea', 'yes'],
          ['content-type', 'application/octet-stream'],
        ],
        cookies: ['a=b'],
      },
      body: Buffer.from('body\0more'),
    });
    const { result: plain } = await running('b');
    await call('POST', 'invocation/b/response', bytes, { headers: type });
    expect(await plain).toEqual({ kind: 'response', http: undefined, body: bytes });
  });
});

describe('an HTTP response', () => {
  test('is mapped, also a large one', async () => {
    for (const size of [10, 3_000_000]) {
      const { result } = await running('a', { http: true });
      const value = { statusCode: 201, headers: { 'X-A': 1 }, body: 'é'.repeat(size) };
      await call('POST', 'invocation/a/response', JSON.stringify(value));
      const got = await result;
      if (got.kind === 'error') throw new Error(got.error.errorMessage);
      expect(got.http).toEqual({ statusCode: 201, headers: [['x-a', '1']], cookies: [] });
      // Comparing millions of elements one by one takes half a minute.
      expect(got.body.equals(Buffer.from(value.body))).toBe(true);
    }
  });

  test('that is malformed is an error of the function', async () => {
    const { result } = await running('a', { http: true });
    expect((await call('POST', 'invocation/a/response', '{"statusCode":"200"}')).status).toBe(202);
    expect(await result).toMatchObject({
      kind: 'error',
      error: {
        errorType: 'Runtime.InvalidHttpResponse',
        errorMessage: expect.stringContaining('statusCode must be an integer'),
      },
    });
  });
});

describe('an error', () => {
  test.each<[string, string, string | undefined, object]>([
    [
      'is reported as it says',
      '{"errorMessage":"no","errorType":"TypeError","stackTrace":["a","b"]}',
      'Runtime.X',
      { errorType: 'TypeError', errorMessage: 'no', trace: ['a', 'b'] },
    ],
    [
      'has Go’s stack',
      '{"errorMessage":"no","errorType":"E","stackTrace":[{"path":"main.go","line":3,"label":"main"}]}',
      undefined,
      { trace: ['main (main.go:3)'] },
    ],
    ['takes its type from the header', '{"errorMessage":"no"}', 'Function.TooHot', { errorType: 'Function.TooHot' }],
    [
      'of an invalid Function type is unknown',
      '{}',
      'Function.lower',
      { errorType: 'Function.Unknown', errorMessage: '' },
    ],
    ['of an invalid type is unknown', '{}', 'whatever', { errorType: 'Runtime.Unknown' }],
    [
      'without any type is unknown',
      'just text',
      undefined,
      { errorType: 'Runtime.Unknown', errorMessage: 'just text', trace: [] },
    ],
    ['may be an array', '[1]', 'Function.Array', { errorType: 'Function.Array', errorMessage: '[1]' }],
    [
      'may have fields of other types',
      '{"errorType":5,"errorMessage":{},"stackTrace":"x"}',
      undefined,
      { errorType: 'Runtime.Unknown', errorMessage: '', trace: [] },
    ],
    [
      'may be longer than is parsed',
      `{"errorMessage":"${'x'.repeat(70_000)}"}`,
      'Function.Long',
      { errorType: 'Function.Long' },
    ],
  ])('%s', async (_, body, type, expected) => {
    const { result } = await running();
    const headers = type === undefined ? {} : { 'lambda-runtime-function-error-type': type };
    expect(await call('POST', 'invocation/a/error', body, { headers })).toMatchObject({
      status: 202,
      text: '{"status":"OK"}\n',
    });
    expect(await result).toMatchObject({ kind: 'error', error: { ...expected, exiting: false } });
    // And the program goes on.
    await running('b');
  });

  test('of a program that ends because of it says so, and one that goes on is given its next event', async () => {
    const { result } = await running();
    await call('POST', 'invocation/a/error', '{"errorType":"Panic"}');
    api.close(undefined);
    expect(await result).toMatchObject({ kind: 'error', error: { errorType: 'Panic', exiting: true } });
    open();
    const { result: survived } = await running();
    await call('POST', 'invocation/a/error', '{"errorType":"Mistake"}');
    void next();
    expect(await survived).toMatchObject({ error: { errorType: 'Mistake', exiting: false } });
  });

  test('that is far too long is cut off', async () => {
    const { result } = await running();
    const headers = { 'lambda-runtime-function-error-type': 'Function.Huge' };
    expect(await call('POST', 'invocation/a/error', Buffer.alloc(300_000, 'x'), { headers })).toMatchObject(
      refusal(413, 'RequestEntityTooLarge'),
    );
    expect(await result).toMatchObject({ kind: 'error', error: { errorType: 'Function.Huge' } });
  });

  test('of the start is told, once, and only before the first event was asked for', async () => {
    const headers = { 'lambda-runtime-function-error-type': 'Runtime.NoConfig' };
    expect(await call('POST', 'init/error', '{"errorMessage":"no config"}', { headers })).toMatchObject({
      status: 202,
    });
    expect(seen).toEqual(['init failed: Runtime.NoConfig: no config']);
    expect(await call('POST', 'init/error', '{}')).toMatchObject(forbidden('InitError', 'InitError'));
    open();
    void next().catch(() => {});
    await expect.poll(() => seen).toEqual(['ready']);
    expect(await call('POST', 'init/error', '{}')).toMatchObject(forbidden('Ready', 'InitError'));
    void invoke('a');
    await next();
    expect(await call('POST', 'init/error', '{}')).toMatchObject(forbidden('Running', 'InitError'));
  });
});

test('several invocations at a time go to several requests, each once', async () => {
  open(3);
  const waiting = [next(), next()];
  await expect.poll(() => seen).toEqual(['ready']);
  const results = ['a', 'b', 'c'].map((id) => invoke(id, `"${id}"`));
  const [first, second] = await Promise.all(waiting);
  const third = await next();
  const got = [first, second, third].map((answer) => answer?.text).sort();
  expect(got).toEqual(['"a"', '"b"', '"c"']);
  const fourth = next();
  await call('POST', 'invocation/c/response', '3');
  await call('POST', 'invocation/a/response', '1');
  expect(await call('POST', 'invocation/a/response', '1')).toMatchObject({ status: 403 });
  await call('POST', 'invocation/b/error', '{"errorType":"E"}');
  expect(await Promise.all(results)).toMatchObject([
    { body: Buffer.from('1') },
    { error: { errorType: 'E' } },
    { body: Buffer.from('3') },
  ]);
  void invoke('d', '"d"');
  expect((await fourth).text).toBe('"d"');
});

test('a connection is used again and again, whatever its requests are answered with', async () => {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  let made = 0;
  agent.createConnection = () => {
    made += 1;
    // What the client's pool calls on a socket.
    return Object.assign(connect(), { setKeepAlive: () => {}, ref: () => {}, unref: () => {}, setTimeout: () => {} });
  };
  const statuses: number[] = [];
  for (let i = 0; i < 20; i += 1) {
    const id = `i${i}`;
    const result = invoke(id);
    statuses.push((await call('GET', 'invocation/next', '', { agent })).status);
    statuses.push((await call('POST', 'invocation/no/response', 'x'.repeat(100_000), { agent })).status);
    statuses.push((await call('POST', `invocation/${id}/response`, '1', { agent })).status);
    expect(await result).toMatchObject({ kind: 'response' });
  }
  expect(statuses).toEqual(Array.from({ length: 20 }, () => [200, 400, 202]).flat());
  expect(made).toBe(1);
});

test.each([
  ['GET', '/', 404],
  ['GET', '/2018-06-01/runtime', 404],
  ['GET', '/2018-06-01/runtime/invocation/next/', 404],
  ['GET', '/2020-01-01/extension/event/next', 404],
  ['POST', '/2018-06-01/runtime/invocation//response', 404],
  ['POST', 'invocation/next', 405],
  ['GET', 'invocation/a/response', 405],
  ['PUT', 'init/error', 405],
])('%s %s is %d', async (method, path, status) => {
  expect((await call(method, path)).status).toBe(status);
});

describe('a hostile client', () => {
  const raw = async (text: string) => {
    const connection = connect();
    let heard = '';
    connection.on('data', (chunk) => {
      heard += chunk;
    });
    connection.write(text);
    await expect.poll(() => heard, { timeout: 5_000 }).not.toBe('');
    return heard;
  };

  test.each([
    ['no HTTP', 'SSH-2.0-x\r\n\r\n', /^HTTP\/1\.1 400 /],
    ['headers without end', `GET / HTTP/1.1\r\nx: ${'y'.repeat(70_000)}`, /^HTTP\/1\.1 431 /],
    ['two lengths', 'POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n', /^HTTP\/1\.1 400 /],
    [
      'a length and chunks',
      'POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n',
      /^HTTP\/1\.1 400 /,
    ],
  ])('that sends %s is refused, and charged', async (_, text, expected) => {
    expect(await raw(text)).toMatch(expected);
    expect(charged).toBeGreaterThan(0);
  });

  test('that sends a hundred requests in one piece is a violation', async () => {
    connect().write('GET /x HTTP/1.1\r\nhost: x\r\n\r\n'.repeat(100));
    await expect.poll(() => seen).toContainEqual(expect.stringMatching(/^violated: /));
  });

  test('is charged for each request that is refused', async () => {
    await call('GET', '/x');
    const once = charged;
    expect(once).toBeGreaterThanOrEqual(64 * 1024);
    await call('POST', 'invocation/x/response', '1');
    expect(charged).toBe(2 * once);
  });

  test('that never stops sending what nobody wants is cut off', async () => {
    const connection = connect();
    connection.write(`POST ${BASE}/invocation/x/response HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n`);
    const chunk = `10000\r\n${'x'.repeat(65_536)}\r\n`;
    let sent = 0;
    while (!connection.destroyed && sent < 1_000) {
      sent += 1;
      if (!connection.write(chunk))
        await new Promise<void>((resolve) => {
          connection.once('drain', resolve);
          connection.once('close', resolve);
          connection.once('end', resolve);
        });
      if (connection.readableEnded) break;
    }
    expect(sent).toBeLessThan(200);
  });
});

test('the end of the sandbox rejects what is not answered, and not what is', async () => {
  const { result } = await running('a', { http: true });
  await call('POST', 'invocation/a/response', JSON.stringify({ statusCode: 200, body: 'x'.repeat(2_000_000) }));
  const given = invoke('b');
  expect((await next()).headers['lambda-runtime-aws-request-id']).toBe('b');
  const queued = invoke('c');
  api.close(undefined);
  await expect(given).rejects.toMatchObject({ name: 'ChannelClosed', entered: true });
  await expect(queued).rejects.toMatchObject({ name: 'ChannelClosed', entered: false });
  expect(await result).toMatchObject({ kind: 'response' });
});

test('the end of the sandbox ends who waits for an event', async () => {
  const waiting = next();
  await expect.poll(() => seen).toEqual(['ready']);
  api.close(undefined);
  await expect(waiting).rejects.toThrow();
});
