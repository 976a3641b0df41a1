import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http';
import { type AddressInfo, connect, createServer as createTcpServer, type Server as TcpServer } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import type { InvokeMessage, InvokeResult } from '../channel/conversation.js';
import { exchange, httpError } from './port-exchange.js';
import { type PortRequest, portRequest } from './port-request.js';

const MESSAGE: InvokeMessage = {
  id: 'id-1',
  deadlineMs: 12345,
  arn: 'arn:x',
  traceId: '',
  clientContext: '',
  http: true,
};
const httpEvent = (more: object = {}) =>
  Buffer.from(
    JSON.stringify({
      ...{ version: '2.0', rawPath: '/a%20b/c', rawQueryString: 'x=1&y=%20', cookies: ['a=1', 'b=2'] },
      headers: { host: 'f.localhost', 'content-type': 'text/plain', 'content-length': '999', te: 'gzip' },
      requestContext: { http: { method: 'PUT', path: '/a b/c' } },
      ...{ body: 'hello', isBase64Encoded: false },
      ...more,
    }),
  );

describe('the request of an event', () => {
  test('is the one that the event was made from', () => {
    const request = portRequest(MESSAGE, httpEvent());
    expect(request).toMatchObject({ method: 'PUT', path: '/a%20b/c?x=1&y=%20' });
    expect({ ...request.headers }).toEqual({
      ...{ host: 'f.localhost', 'content-type': 'text/plain', cookie: 'a=1; b=2', 'content-length': '5' },
      'lambda-runtime-aws-request-id': 'id-1',
      'lambda-runtime-deadline-ms': '12345',
      'lambda-runtime-invoked-function-arn': 'arn:x',
    });
    expect(request.body.toString()).toBe('hello');
    const binary = portRequest(
      MESSAGE,
      httpEvent({ body: Buffer.from([0, 255]).toString('base64'), isBase64Encoded: true }),
    );
    expect([...binary.body]).toEqual([0, 255]);
    expect(portRequest(MESSAGE, httpEvent({ body: undefined })).body).toHaveLength(0);
  });

  test.each([
    ['no HTTP event', Buffer.from('{"a":1}')],
    ['no JSON', Buffer.from('hello')],
    ['a method that is none', httpEvent({ requestContext: { http: { method: 'GET / HTTP/1.1\r\nx: y' } } })],
    ['a path with a line break', httpEvent({ rawPath: '/a\r\nx: y' })],
    ['a path that is none', httpEvent({ rawPath: 'http://elsewhere/' })],
    ['a header with a line break', httpEvent({ headers: { a: 'b\r\nc: d' } })],
    ['a header whose name is none', httpEvent({ headers: { 'a b': 'c' } })],
    ['a cookie with a line break', httpEvent({ cookies: ['a\r\nb'] })],
    ['headers that are numbers', httpEvent({ headers: { a: 1 } })],
    ['the number 1', Buffer.from('1')],
  ])('with %s is posted to /', (_, event) => {
    expect(portRequest(MESSAGE, event)).toMatchObject({ method: 'POST', path: '/', body: event });
  });

  test('of an invocation that is no HTTP is posted to /, whatever it looks like', () => {
    expect(portRequest({ ...MESSAGE, http: false }, httpEvent())).toMatchObject({ method: 'POST', path: '/' });
    expect(portRequest({ ...MESSAGE, http: false }, Buffer.alloc(0)).body.toString()).toBe('{}');
  });

  test('cannot be given headers of ours by a caller', () => {
    const headers = { 'Lambda-Runtime-Aws-Request-Id': 'forged', Cookie: 'c=3', Connection: 'x' };
    const request = portRequest({ ...MESSAGE, traceId: 't' }, httpEvent({ headers, cookies: [] }));
    expect(request.headers).toMatchObject({ 'lambda-runtime-aws-request-id': 'id-1', 'lambda-runtime-trace-id': 't' });
    expect(request.headers.cookie).toBeUndefined();
    expect(request.headers.connection).toBeUndefined();
  });
});

describe('the exchange with a server', () => {
  let server: Server | TcpServer;
  afterEach(() => new Promise<void>((resolve) => server.close(() => resolve())));

  const call = async (request: PortRequest, http = true): Promise<InvokeResult & { written: number }> => {
    const connection = connect((server.address() as AddressInfo).port, '127.0.0.1');
    let written = 0;
    const result = await exchange(connection, request, http, () => {
      written += 1;
    }).catch((err: Error) => httpError(err.message));
    expect(connection.destroyed).toBe(true);
    return { ...result, written };
  };
  const serve = (listener: RequestListener) => {
    server = createServer(listener);
    return new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  };
  /** A server that says this and closes. */
  const say = (text: string) => {
    server = createTcpServer((socket) => {
      socket.on('error', () => {});
      socket.once('data', () => socket.end(text));
    });
    return new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  };
  const request = portRequest(MESSAGE, httpEvent());
  const errorOf = (result: InvokeResult) => (result.kind === 'error' ? result.error : undefined);

  test('carries the request and the response, with headers and cookies', async () => {
    let seen: Pick<IncomingMessage, 'method' | 'url' | 'headers'> | undefined;
    await serve((req, res) => {
      seen = req;
      req.pipe(res.writeHead(201, { 'X-A': 'b', 'Set-Cookie': ['c=1', 'd=2'], 'Content-Type': 'text/plain' }));
    });
    const result = await call(request);
    expect(seen).toMatchObject({ method: 'PUT', url: '/a%20b/c?x=1&y=%20', headers: { cookie: 'a=1; b=2' } });
    expect(result).toMatchObject({ kind: 'response', written: 1, http: { statusCode: 201, cookies: ['c=1', 'd=2'] } });
    if (result.kind !== 'response') return;
    expect(result.body.toString()).toBe('hello');
    const names = result.http?.headers.map(([name]) => name);
    expect(names).toContain('x-a');
    expect(names).not.toContain('transfer-encoding');
    expect(names).not.toContain('connection');
  });

  test.each([
    ['application/json', '{"a":1}', '{"a":1}'],
    ['application/problem+json; charset=utf-8', '[1]', '[1]'],
    ['text/plain', 'hi "you"', '"hi \\"you\\""'],
    ['application/json', '', '""'],
  ])('makes a result of %s %s', async (type, body, expected) => {
    await serve((_, res) => res.writeHead(200, { 'content-type': type }).end(body));
    const result = await call(request, false);
    expect(result.kind === 'response' && result.body.toString()).toBe(expected);
  });

  test('makes an error of a status of 400 or more, unless it is an HTTP response that is wanted', async () => {
    await serve((_, res) => res.writeHead(500).end('broken\0'));
    expect(errorOf(await call(request, false))).toMatchObject({
      errorType: 'Function.HttpError',
      errorMessage: expect.stringContaining('status 500: broken\ufffd'),
    });
    expect(await call(request)).toMatchObject({ kind: 'response', http: { statusCode: 500 } });
  });

  test.each([
    ['says nothing', ''],
    ['speaks no HTTP', 'SSH-2.0-OpenSSH\r\n'],
    ['breaks off', 'HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello'],
    ['breaks off in a chunk', 'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nff\r\nhello'],
    ['wants another protocol', 'HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n'],
    ['has a status out of range', 'HTTP/1.1 999 Odd\r\ncontent-length: 0\r\n\r\n'],
    ['sends an endless head', `HTTP/1.1 200 OK\r\n${`a: ${'x'.repeat(1_000)}\r\n`.repeat(100)}`],
    ['has a control character in a header', 'HTTP/1.1 200 OK\r\na: b\u0001c\r\ncontent-length: 0\r\n\r\n'],
  ])('is an error of the function when the server %s', async (_, text) => {
    await say(text);
    expect(errorOf(await call(request))).toMatchObject({ errorType: 'Function.HttpError' });
  });

  test('gives up a response that is too large, and does not keep it', async () => {
    let sent = 0;
    await serve((_, res: ServerResponse) => {
      const more = () => {
        while (!res.destroyed && sent < 100 * 1024 * 1024) {
          sent += 65_536;
          if (!res.write(Buffer.alloc(65_536))) {
            res.once('drain', more);
            return;
          }
        }
      };
      more();
    });
    expect(errorOf(await call(request))).toMatchObject({ errorType: 'Function.ResponseSizeTooLarge' });
    expect(sent).toBeLessThan(50 * 1024 * 1024);
  });

  test.each([
    ['HEAD', 200],
    ['HEAD', 304],
    ['GET', 304],
  ])(
    'gives the answer to %s with the status %d no body, however large it says the other answer is',
    async (method, status) => {
      await say(`HTTP/1.1 ${status} Some\r\netag: x\r\ncontent-length: 99000000\r\n\r\n`);
      const result = await call({ ...request, method });
      expect(result).toMatchObject({ kind: 'response', http: { statusCode: status, headers: [['etag', 'x']] } });
      expect(result.kind === 'response' && result.body).toHaveLength(0);
    },
  );

  test('says what it is about when nobody listens', async () => {
    await say('');
    const { port } = server.address() as AddressInfo;
    await new Promise<void>((resolve) => server.close(() => resolve()));
    const answer = exchange(connect(port, '127.0.0.1'), request, true, () => {});
    await expect(answer).rejects.toThrow('ECONNREFUSED');
    server.listen(0);
  });
});
