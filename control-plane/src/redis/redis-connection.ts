import { createHash } from 'node:crypto';
import { Backoff } from '@lambda-fleet/common/backoff';
import { withDeadline } from '@lambda-fleet/common/deadline';
import { errorText } from '@lambda-fleet/common/errors';
import type { Logger } from '@lambda-fleet/common/logger';
import type { Secret } from '@lambda-fleet/common/secret';
import { Redis } from 'ioredis';

/** A program that Redis runs as one step. */
export interface RedisScript {
  readonly lua: string;
  readonly sha: string;
}

export function redisScript(lua: string): RedisScript {
  return { lua, sha: createHash('sha1').update(lua).digest('hex') };
}

export interface RedisConnectionOptions {
  /** `redis://`, `rediss://` or `unix://`. */
  readonly url: Secret;
  /** Loaded whenever it has connected. */
  readonly scripts: readonly RedisScript[];
  /** Calls may be made. */
  readonly onUp: () => void;
  /** No call is answered any more, those that were made included. */
  readonly onDown: (reason: string) => void;
  readonly log: Logger;
}

class RedisAway extends Error {
  override readonly name = 'RedisAway';
}

interface Sent {
  readonly dueAt: number;
  readonly reject: (err: Error) => void;
}

/** To connect and to load the scripts, together. */
const CONNECT_MS = 1_000;

/** A frozen server does not close its side. */
const DISCONNECT_MS = 100;

const RETRY = { firstMs: 50, capMs: 1_000 };

/**
 * One connection to Redis, made again whenever it is lost, on which no call waits for longer than its deadline.
 *
 * States: down ⇄ up → closed. Answers come in the order of the calls, so one that is late says of all behind it that they
 * are: the connection is cut, and all of them fail. Nothing is queued while it is down.
 */
export class RedisConnection {
  readonly #sent = new Set<Sent>();
  readonly #backoff = new Backoff(RETRY);
  #client: Redis | undefined;
  #retry: NodeJS.Timeout | undefined;
  #watch: NodeJS.Timeout | undefined;
  #watchedUntil = 0;
  #closed = false;
  #lost = false;

  constructor(private readonly options: RedisConnectionOptions) {
    void this.#connect();
  }

  /** Rejects when it failed, was late, or cannot be sent: by then `onDown` was called. */
  call(script: RedisScript, args: readonly (string | number)[], deadlineMs: number): Promise<unknown> {
    const client = this.#client;
    if (client === undefined) return Promise.reject(new RedisAway('There is no connection.'));
    return new Promise((resolve, reject) => {
      const sent: Sent = { dueAt: performance.now() + deadlineMs, reject };
      this.#sent.add(sent);
      this.#watchUntil(sent.dueAt);
      client.evalsha(script.sha, 0, ...args).then(
        (answer) => {
          if (!this.#sent.delete(sent)) return;
          this.#backoff.reset();
          resolve(answer);
        },
        // An error of one (no such script, read-only, out of memory) is one of all.
        (err: unknown) => this.#down(client, errorText(err)),
      );
    });
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#retry);
    const client = this.#client;
    if (client !== undefined) this.#down(client, 'it was closed');
  }

  async #connect(): Promise<void> {
    const { url, scripts, log, onUp } = this.options;
    const client = new Redis(url.reveal().replace(/^unix:(\/\/)?/, ''), {
      ...{ lazyConnect: true, retryStrategy: null, enableOfflineQueue: false, enableReadyCheck: false },
      ...{ maxRetriesPerRequest: 0, connectTimeout: CONNECT_MS, disconnectTimeout: DISCONNECT_MS },
      ...{ protocol: 2, disableClientInfo: true, connectionName: 'lambda-control-plane' },
    });
    // What goes wrong is also told to whoever waits for it; without a listener it would end the process.
    client.on('error', () => undefined);
    client.once('close', () => this.#down(client, 'the connection broke'));
    const load = async (): Promise<void> => {
      await client.connect();
      await Promise.all(scripts.map(({ lua }) => client.script('LOAD', lua)));
    };
    try {
      await withDeadline('connecting to Redis', CONNECT_MS, load());
    } catch (err) {
      client.disconnect();
      if (!this.#lost) log.warn({ reason: errorText(err) }, 'redis_unreachable');
      this.#lost = true;
      this.#connectLater();
      return;
    }
    if (this.#closed) return client.disconnect();
    this.#client = client;
    this.#lost = false;
    onUp();
  }

  #connectLater(): void {
    if (this.#closed) return;
    this.#retry = setTimeout(() => void this.#connect(), this.#backoff.next()).unref();
  }

  #down(client: Redis, reason: string): void {
    if (this.#client !== client) return;
    this.#client = undefined;
    client.disconnect();
    clearTimeout(this.#watch);
    this.#watch = undefined;
    const unanswered = [...this.#sent];
    this.#sent.clear();
    this.options.onDown(reason);
    for (const { reject } of unanswered) reject(new RedisAway(reason));
    this.#connectLater();
  }

  #watchUntil(dueAt: number): void {
    if (this.#watch !== undefined && this.#watchedUntil <= dueAt) return;
    clearTimeout(this.#watch);
    this.#watchedUntil = dueAt;
    // An answer may have arrived while this process was busy: it is read before what is set for immediately.
    this.#watch = setTimeout(() => setImmediate(() => this.#look()), Math.max(0, dueAt - performance.now()));
    this.#watch.unref();
  }

  #look(): void {
    this.#watch = undefined;
    const client = this.#client;
    if (client === undefined || this.#sent.size === 0) return;
    let dueAt = Number.POSITIVE_INFINITY;
    for (const sent of this.#sent) dueAt = Math.min(dueAt, sent.dueAt);
    if (dueAt <= performance.now()) this.#down(client, 'Redis has not answered in time');
    else this.#watchUntil(dueAt);
  }
}
