import { Agent, type IncomingHttpHeaders, request } from 'node:http';

const CALL_DEADLINE_MS = 30_000;

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  /** From just before the request is written until the last byte of the answer is read. */
  readonly elapsedMs: number;
}

/** One connection, one call at a time, the connection kept. The same client measures every target. */
export class KeepAliveClient {
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 1 });

  constructor(
    private readonly port: number,
    private readonly headers: Readonly<Record<string, string>>,
  ) {}

  /** Rejects when the connection breaks or the answer is not whole after 30 s. */
  call(method: string, path: string, body?: Buffer): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const length = body === undefined ? {} : { 'content-type': 'application/json', 'content-length': body.length };
      const startedAt = performance.now();
      const sent = request(
        {
          host: '127.0.0.1',
          port: this.port,
          method,
          path,
          agent: this.#agent,
          headers: { ...this.headers, ...length },
          timeout: CALL_DEADLINE_MS,
        },
        (answer) => {
          const chunks: Buffer[] = [];
          answer.on('data', (chunk: Buffer) => chunks.push(chunk));
          answer.once('error', reject);
          answer.once('end', () => {
            const elapsedMs = performance.now() - startedAt;
            resolve({
              status: answer.statusCode ?? 0,
              headers: answer.headers,
              body: Buffer.concat(chunks),
              elapsedMs,
            });
          });
        },
      );
      sent.once('timeout', () =>
        sent.destroy(new Error(`no answer from port ${this.port} after ${CALL_DEADLINE_MS} ms`)),
      );
      sent.once('error', reject);
      sent.end(body);
    });
  }

  close(): void {
    this.#agent.destroy();
  }
}
