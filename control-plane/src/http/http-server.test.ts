import { Agent, type IncomingHttpHeaders, type RequestListener, request } from 'node:http';
import { afterEach, describe, expect, it } from 'vitest';
import { HttpServer } from './http-server.js';

const client = new Agent({ keepAlive: true, maxSockets: 1 });
let server: HttpServer | undefined;

afterEach(async () => {
  client.destroy();
  await server?.close(0);
  server = undefined;
});

interface Answer {
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

async function start(listener: RequestListener): Promise<(agent?: Agent) => Promise<Answer>> {
  server = new HttpServer(listener);
  const { port } = await server.listen(0, '127.0.0.1');
  return (agent = client) =>
    new Promise((resolve, reject) => {
      const sent = request({ port, host: '127.0.0.1', agent }, (res) => {
        let body = '';
        res.on('data', (chunk: Buffer) => {
          body += chunk.toString();
        });
        res.on('end', () => resolve({ headers: res.headers, body }));
        res.on('error', reject);
      });
      sent.on('error', reject);
      sent.end();
    });
}

describe('an HTTP server that is stopped', () => {
  it('serves while it leaves, and says that each answer is the last of its connection', async () => {
    const call = await start((_req, res) => res.end('served'));
    expect((await call()).headers.connection).toBe('keep-alive');
    server?.leave();
    const answer = await call();
    expect(answer.body).toBe('served');
    expect(answer.headers.connection).toBe('close');
  });

  it('says so in answers to requests that it had before, too', async () => {
    let answer: (() => void) | undefined;
    const call = await start((_req, res) => {
      answer = () => void res.writeHead(200).end('late');
    });
    const answered = call();
    await expect.poll(() => answer !== undefined).toBe(true);
    server?.leave();
    answer?.();
    expect((await answered).headers.connection).toBe('close');
  });

  it('lets what is in progress finish, and is closed then, however long it might have waited', async () => {
    let answer: (() => void) | undefined;
    const call = await start((_req, res) => {
      res.write('begun, ');
      answer = () => void res.end('finished');
    });
    const answered = call();
    await expect.poll(() => answer !== undefined).toBe(true);
    // Longer than the test may take.
    const closed = server?.close(600_000);
    await expect(call(new Agent())).rejects.toThrow(/ECONNREFUSED/);
    answer?.();
    expect((await answered).body).toBe('begun, finished');
    await closed;
  });

  it('cuts what does not finish in time', async () => {
    const call = await start(() => undefined);
    const answered = call();
    const failed = expect(answered).rejects.toThrow(/hang up|ECONNRESET/);
    await new Promise((resolve) => setTimeout(resolve, 50));
    await server?.close(1);
    await failed;
  });
});
