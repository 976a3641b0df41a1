import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import { type AddressInfo, createServer as createTcpServer, type Server as TcpServer } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { ClaimedInvocation } from '../async/async-invocation.js';
import type { Attempt } from '../async/run-attempt.js';
import { createRunWebhook } from '../async/run-webhook.js';
import { AddressPolicy } from './address-policy.js';
import { HostAddresses } from './host-addresses.js';
import { WebhookSender } from './webhook-sender.js';

const ROW = {
  ...{ id: '019b7c52-8d0e-7c1b-b0f4-6a3a5a1e9c11', projectId: 'default', kind: 'webhook', leftMs: 60_000 },
  ...{ payload: Buffer.from('{"a":1}'), epoch: 1, attempts: 0, losses: 0, deferrals: 0 },
} as unknown as ClaimedInvocation;

interface Received {
  readonly method: string | undefined;
  readonly url: string | undefined;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}

/** What every test name means here. */
const NAMES: Readonly<Record<string, readonly string[]>> = {
  'receiver.test': ['127.0.0.1'],
  'private.test': ['10.0.0.1'],
  'mapped.test': ['::ffff:10.0.0.1'],
  'both.test': ['127.0.0.1', '192.168.0.1'],
  'spare.test': ['127.0.0.2', '127.0.0.1'],
  'nowhere.test': [],
};

describe('a webhook', () => {
  let server: Server;
  let received: Received[];
  let answer: (response: ServerResponse) => void;
  let port: number;

  beforeEach(async () => {
    received = [];
    answer = (response) => void response.end('ok');
    server = createServer((request: IncomingMessage, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        const { method, url, headers } = request;
        received.push({ method, url, headers, body: Buffer.concat(chunks).toString() });
        answer(response);
      });
    });
    port = await listen(server);
  });
  afterEach(async () => {
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
  });

  const senderOf = ({ allowed = ['127.0.0.0/8'], deadlineMs = 5_000, resolve = resolved } = {}) =>
    new WebhookSender(new AddressPolicy(allowed), new HostAddresses(resolve), deadlineMs);
  const resolved = async (host: string): Promise<readonly string[]> => {
    const addresses = NAMES[host];
    if (addresses === undefined) throw new Error(`getaddrinfo ENOTFOUND ${host}`);
    return addresses;
  };
  const deliver = (url: string, sender = senderOf(), signal = new AbortController().signal): Promise<Attempt> =>
    createRunWebhook(sender)({ ...ROW, context: { url, sourceId: 'the-source' } }, { signal, begin: async () => true });
  const failureOf = (attempt: Attempt): string => {
    expect(attempt.end).toMatchObject({ outcome: 'function_error', over: true, lost: false });
    expect(attempt.end.error?.errorType).toBe('Webhook.Failed');
    return attempt.end.error?.errorMessage ?? '';
  };
  const here = () => `http://127.0.0.1:${port}/hook?x=1`;

  it('is posted as JSON with who sent it, and an answer of 200 to 299 is a success', async () => {
    for (const status of [200, 201, 204, 299]) {
      answer = (response) => void response.writeHead(status).end();
      const { end, made } = await deliver(here());
      expect(end).toMatchObject({ outcome: 'success', error: null });
      expect(made.statusCode).toBe(status);
    }
    expect(received[0]).toMatchObject({ method: 'POST', url: '/hook?x=1', body: '{"a":1}' });
    expect(received[0]?.headers).toMatchObject({
      ...{ host: `127.0.0.1:${port}`, 'content-type': 'application/json', 'content-length': '7' },
      ...{ 'user-agent': 'lambda-fleet', 'x-lambda-source': 'the-source', 'x-request-id': ROW.id },
    });
  });

  it.each([400, 404, 410, 429, 500, 503])('an answer of %i is a failure', async (status) => {
    answer = (response) => void response.writeHead(status).end();
    expect(failureOf(await deliver(here()))).toBe(`${here()} answered ${status}`);
  });

  it('follows no redirect', async () => {
    answer = (response) => void response.writeHead(307, { location: `http://127.0.0.1:${port}/elsewhere` }).end();
    expect(failureOf(await deliver(here()))).toContain('answered 307');
    expect(received).toHaveLength(1);
  });

  it('goes to the address that was checked, under its name, and to the next one when that does not answer', async () => {
    expect((await deliver(`http://receiver.test:${port}/`)).end.outcome).toBe('success');
    expect((await deliver(`http://spare.test:${port}/`)).end.outcome).toBe('success');
    expect(received.map(({ headers }) => headers.host)).toEqual([`receiver.test:${port}`, `spare.test:${port}`]);
  });

  it('asks what a name means once for each delivery', async () => {
    let asked = 0;
    const rebinding = async () => (asked++ === 0 ? ['127.0.0.1'] : ['10.0.0.1']);
    const sender = senderOf({ resolve: rebinding });
    expect((await deliver(`http://receiver.test:${port}/`, sender)).end.outcome).toBe('success');
    expect(asked).toBe(1);
    expect(failureOf(await deliver(`http://receiver.test:${port}/`, sender))).toContain('not a public address');
    expect(received).toHaveLength(1);
  });

  it.each([
    ['a name of a private address', 'http://private.test'],
    ['a name of a mapped private address', 'http://mapped.test'],
    ['a name with a private address among others', 'http://both.test'],
    ['a private address', 'http://192.168.0.1'],
    ['a private address in brackets', 'http://[::1]'],
    ['a mapped address', 'http://[::ffff:10.0.0.1]'],
  ])('never goes to %s, and does not say which', async (_what, url) => {
    const refused = senderOf().check(`${url}:${port}/`, 'onFailure.url');
    await expect(refused).rejects.toMatchObject({ code: 'invalid_request', details: { field: 'onFailure.url' } });
    await expect(refused).rejects.toThrow(
      /^onFailure\.url cannot be sent to: .* not a public address.*LAMBDA_WEBHOOK_NETWORKS/,
    );
    const failure = failureOf(await deliver(`${url}:${port}/`));
    expect(failure).toContain('not a public address');
    if (url.endsWith('.test')) expect(failure).not.toContain('10.0.0.1');
  });

  it.each([
    [
      '2130706433',
      '0x7f000001',
      '017700000001',
      '0x7f.1',
      '127.1',
      '0177.0.0.1',
      '127.0.0.1.',
      '%31%32%37.1',
      '１２７.1',
    ],
    ['0', '0.0.0.0', '[::]', '[::ffff:7f00:1]', '[::ffff:127.0.0.1]', '[0:0:0:0:0:ffff:7f00:1]', '[::127.0.0.1]'],
    ['169.254.169.254', '2852039166', '0xa9fea9fe', '[::ffff:a9fe:a9fe]', '⑯⑨.254.169.254', '[64:ff9b::7f00:1]'],
  ])('sees through other spellings: %s, %s …', async (...hosts) => {
    const sender = senderOf({ allowed: [] });
    for (const host of hosts) {
      await expect(sender.check(`http://${host}:${port}/`, 'url'), host).rejects.toThrow('not a public address');
      expect(failureOf(await deliver(`http://${host}:${port}/`, sender)), host).toContain('not a public address');
    }
    expect(received).toEqual([]);
  });

  it.each([
    ['', 'url must be a URL.'],
    ['//receiver.test/', 'url must be a URL.'],
    ['ftp://receiver.test/', 'url must be an http:// or https:// URL.'],
    ['file:///etc/passwd', 'url must be an http:// or https:// URL.'],
    ['unix:/var/run/docker.sock', 'url must be an http:// or https:// URL.'],
    ['http://user:secret@receiver.test/', 'url must not hold a user name or password.'],
    ['http://unknown.test/', 'url cannot be sent to: getaddrinfo ENOTFOUND unknown.test.'],
    ['http://nowhere.test/', 'url cannot be sent to: nowhere.test has no address.'],
  ])('to %j is refused when it is set', async (url, message) => {
    await expect(senderOf().check(url, 'url')).rejects.toThrow(message);
  });

  it('to a URL of more than 2048 characters is refused when it is set', async () => {
    const path = 'x'.repeat(2_048 - 'http://receiver.test/'.length);
    await senderOf().check(`http://receiver.test/${path}`, 'url');
    await expect(senderOf().check(`http://receiver.test/${path}x`, 'url')).rejects.toThrow('url has more than 2048');
  });

  it('is kept without its fragment', async () => {
    expect((await senderOf().check('http://receiver.test/a?b#c', 'url')).href).toBe('http://receiver.test/a?b');
  });

  it('fails when nobody listens, and when the connection is closed without an answer', async () => {
    const closing = createTcpServer((socket) => socket.destroy());
    const closed = await listen(closing);
    expect(failureOf(await deliver(`http://127.0.0.1:${closed}/`))).toContain('could not be reached');
    closing.close();
    await once(closing, 'close');
    expect(failureOf(await deliver(`http://127.0.0.1:${closed}/`))).toContain('ECONNREFUSED');
  });

  it.each([
    ['changes the protocol', 'HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n'],
    ['is no HTTP', 'SSH-2.0-OpenSSH_9.2\r\n'],
    ['has endless headers', `HTTP/1.1 200 OK\r\n${'x-a: 1\r\n'.repeat(20_000)}`],
  ])('fails when the answer %s', async (_what, bytes) => {
    const strange = createTcpServer((socket) => {
      socket.on('error', () => undefined).once('data', () => socket.write(bytes));
    });
    const strangePort = await listen(strange);
    expect(failureOf(await deliver(`http://127.0.0.1:${strangePort}/`))).toContain('could not be reached');
    strange.close();
    await once(strange, 'close');
  });

  it('fails at its deadline when no answer comes, or no address', async () => {
    answer = () => undefined;
    expect(failureOf(await deliver(here(), senderOf({ deadlineMs: 100 })))).toContain('no answer within 0.1 s');
    const silent = senderOf({ deadlineMs: 100, resolve: () => new Promise(() => undefined) });
    expect(failureOf(await deliver('http://receiver.test/', silent))).toContain('no answer within 0.1 s');
    await expect(silent.check('http://receiver.test/', 'url')).rejects.toThrow('no answer within 0.1 s');
  });

  it('asks few names at once, and goes on when one of them answers', async () => {
    const answers: ((addresses: readonly string[]) => void)[] = [];
    const sender = senderOf({ resolve: () => new Promise((resolve) => answers.push(resolve)) });
    const all = Array.from({ length: 5 }, () => deliver(`http://receiver.test:${port}/`, sender));
    for (let answered = 0; answered < 5; answered += 1) {
      await expect.poll(() => answers.length).toBe(Math.min(answered + 2, 5));
      answers[answered]?.(['127.0.0.1']);
    }
    for (const { end } of await Promise.all(all)) expect(end.outcome).toBe('success');
  });

  it('ends when it is cancelled', async () => {
    const cancel = new AbortController();
    answer = () => cancel.abort();
    expect(failureOf(await deliver(here(), senderOf(), cancel.signal))).toContain('it was stopped');
  });

  it.each([
    ['big', (response: ServerResponse) => flood(response)],
    ['slow', (response: ServerResponse) => void response.write('x')],
  ])('takes the status of a %s answer, and leaves the rest', async (_what, begin) => {
    const cut = new Promise((resolve) => {
      answer = (response) => {
        response.on('close', resolve).writeHead(200);
        begin(response);
      };
    });
    expect((await deliver(here(), senderOf({ deadlineMs: 1_000 }))).end.outcome).toBe('success');
    await cut;
  });

  it('is not sent to a server whose certificate nobody vouches for', async () => {
    const selfSigned = createHttpsServer({ cert: CERTIFICATE, key: CERTIFICATE_KEY }, (_request, response) => {
      response.end();
    });
    const securePort = await listen(selfSigned);
    expect(failureOf(await deliver(`https://127.0.0.1:${securePort}/`))).toContain('self-signed certificate');
    expect(failureOf(await deliver(`https://receiver.test:${securePort}/`))).toContain('self-signed certificate');
    selfSigned.close();
    await once(selfSigned, 'close');
  });
});

async function listen(server: TcpServer): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

/** Writes for as long as somebody reads. */
function flood(response: ServerResponse): void {
  const chunk = Buffer.alloc(64 * 1024, 'x');
  const more = (): void => {
    while (!response.destroyed && response.write(chunk));
  };
  response.on('drain', more);
  more();
}

/** For 127.0.0.1 until 2125, of nobody and for nothing but this test. */
const CERTIFICATE = `-----BEGIN CERTIFICATE-----
MIIBjzCCATagAwIBAgIUAvxR7+VAYfY1Eq/8BkhHVg66kIgwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyNTA5NTU0NVoYDzIxMjYxMTAx
MDk1NTQ1WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAT7I3mOvTwPSk+WaZApNlpr0cKrl0Fbld0KH4nIC7LJ7v2kg4naFdkb
mMJT1SLWZ8uxXCerEPLuf0MUgMnH5OG6o2QwYjAdBgNVHQ4EFgQUe/CB2l/PBJyY
3N31MsA10rkmUZcwHwYDVR0jBBgwFoAUe/CB2l/PBJyY3N31MsA10rkmUZcwDwYD
VR0TAQH/BAUwAwEB/zAPBgNVHREECDAGhwR/AAABMAoGCCqGSM49BAMCA0cAMEQC
IDK1dYYh9HJPElN8b3zPgS2PcZjdRlRhZ2XqNGe70pktAiBIHnntD+Fql/MpdebR
rkUocccWlZ3JWncItuFF5V0eng==
-----END CERTIFICATE-----`;
const CERTIFICATE_KEY = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgh6UDYwYTzAV4K0xi
MHmMU3Jw+X2vtT9Dcc404XmqRWGhRANCAAT7I3mOvTwPSk+WaZApNlpr0cKrl0Fb
ld0KH4nIC7LJ7v2kg4naFdkbmMJT1SLWZ8uxXCerEPLuf0MUgMnH5OG6
-----END PRIVATE KEY-----`;
