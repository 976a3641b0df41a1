import { Agent, request } from 'node:http';
import { httpCall } from '../fleet/http-call.js';

export interface BalancedCall {
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

export interface BalancedAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly text: string;
  /** The port of the replica that answered. */
  readonly port: number;
}

const LOOK_MS = 200;

/**
 * What an ordinary load balancer does: asks each replica every so often whether it is ready, gives requests to those that are in
 * turn, to all others that answer when none is (it fails open), and tries another one only when no connection could be made, so
 * that nothing is sent twice.
 */
export class Balancer {
  readonly #ready = new Set<number>();
  /** They answer that they are not ready. */
  readonly #unready = new Set<number>();
  readonly #agents = new Map<number, Agent>();
  readonly #timer: NodeJS.Timeout;
  #next = 0;

  constructor(private readonly ports: readonly number[]) {
    for (const port of ports) this.#agents.set(port, new Agent({ keepAlive: true }));
    this.#timer = setInterval(() => void this.#look(), LOOK_MS);
  }

  get readyCount(): number {
    return this.#ready.size;
  }

  close(): void {
    clearInterval(this.#timer);
    for (const agent of this.#agents.values()) agent.destroy();
  }

  async call(call: BalancedCall): Promise<BalancedAnswer> {
    const tried = new Set<number>();
    for (;;) {
      const port = this.#pick(tried);
      if (port === undefined) throw new Error('no replica is ready');
      tried.add(port);
      try {
        return await this.#send(port, call);
      } catch (err) {
        if ((err as NodeJS.ErrnoException).code !== 'ECONNREFUSED') throw err;
      }
    }
  }

  #pick(tried: ReadonlySet<number>): number | undefined {
    const among = this.#ready.size > 0 ? this.#ready : this.#unready;
    const left = this.ports.filter((port) => among.has(port) && !tried.has(port));
    this.#next += 1;
    return left[this.#next % left.length];
  }

  #send(port: number, { method, path, headers, body }: BalancedCall): Promise<BalancedAnswer> {
    return new Promise((resolve, reject) => {
      const agent = this.#agents.get(port);
      const sent = request({ host: '127.0.0.1', port, agent, method, path, headers, timeout: 60_000 }, (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => {
          text += chunk;
        });
        response.on('error', reject);
        response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, text, port }));
      });
      sent.on('timeout', () => sent.destroy(new Error('no answer in 60 s')));
      sent.on('error', reject);
      sent.end(body);
    });
  }

  async #look(): Promise<void> {
    await Promise.all(
      this.ports.map(async (port) => {
        const status = await httpCall({ port, path: '/readyz', timeoutMs: 2_000 }).then(
          (answer) =>
            answer.text.includes('"leaving":true') ? 'leaving' : answer.status === 200 ? 'ready' : 'unready',
          () => 'away',
        );
        for (const [among, name] of [
          [this.#ready, 'ready'],
          [this.#unready, 'unready'],
        ] as const) {
          if (status === name) among.add(port);
          else among.delete(port);
        }
      }),
    );
  }
}
