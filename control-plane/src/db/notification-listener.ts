import { randomUUID } from 'node:crypto';
import { errorText } from '@lambda-fleet/common/errors';
import type { Logger } from '@lambda-fleet/common/logger';
import type postgres from 'postgres';
import { driverClient, SocketTracker, type Sql } from './connection-target.js';
import type { Database } from './database.js';

/**
 * All notices share one channel. With several, the driver queues one more
 * LISTEN than it sends for every failed try to reconnect.
 */
const CHANNEL = 'lambda';
const HEARTBEAT_MS = 10_000;

/** What notices are about. */
export type Topic = 'functions' | 'async' | 'nodes' | 'heartbeat';

type Fragment = postgres.PendingQuery<postgres.Row[]>;

/**
 * The expression that sends a notice when the statement around it commits. Put
 * it into the outermost select list: a CTE that nobody reads is not run.
 */
export function notice(sql: Sql, topic: Topic, payload: string | Fragment): Fragment {
  return sql`pg_notify(${CHANNEL}::text, ${`${topic} `}::text || ${payload})`;
}

/**
 * Hears notices on a connection of its own.
 *
 * A notice is a hint and never the only way to learn something: those sent while
 * the connection is down are lost, so `onRestored` runs after every (re)connect
 * and everything that was learnt by notices has to be doubted then. A connection
 * that is open but deaf (a dead peer, a frozen server) is found by a heartbeat
 * sent through the database and expected here, and cut.
 */
export class NotificationListener {
  readonly #client: Sql;
  readonly #sockets = new SocketTracker();
  readonly #id = randomUUID();
  readonly #hearers: { topic: Topic; hear: (payload: string) => void }[] = [];
  readonly #restored: (() => void)[] = [];
  #heartbeat: NodeJS.Timeout | undefined;
  #heardAt = performance.now();

  constructor(
    private readonly database: Database,
    private readonly log: Logger,
  ) {
    this.#client = driverClient(database.url, this.#sockets, {
      max: 1,
      connection: { application_name: 'lambda-listener' },
    });
    this.on('heartbeat', (payload) => {
      if (payload === this.#id) this.#heardAt = performance.now();
    });
  }

  on(topic: Topic, hear: (payload: string) => void): void {
    this.#hearers.push({ topic, hear });
  }

  /** Runs `doubt` whenever notices may have been lost. */
  onRestored(doubt: () => void): void {
    this.#restored.push(doubt);
  }

  /** Returns at once; `onRestored` tells when it hears. */
  start(): void {
    const hear = (notice: string) => {
      const space = notice.indexOf(' ');
      for (const hearer of this.#hearers) {
        if (hearer.topic === notice.slice(0, space)) hearer.hear(notice.slice(space + 1));
      }
    };
    const restored = () => {
      this.#heardAt = performance.now();
      this.log.info('database_listening');
      for (const doubt of this.#restored) doubt();
    };
    this.#client
      .listen(CHANNEL, hear, restored)
      // The driver listens again by itself when the connection comes back.
      .catch((err: unknown) => this.log.warn({ reason: errorText(err) }, 'database_listen_failed'));
    this.#heartbeat = setInterval(() => void this.#beat(), HEARTBEAT_MS);
    this.#heartbeat.unref();
  }

  async close(): Promise<void> {
    clearInterval(this.#heartbeat);
    await this.#client.end({ timeout: 1 });
  }

  async #beat(): Promise<void> {
    if (performance.now() - this.#heardAt > 2.5 * HEARTBEAT_MS) {
      this.log.warn('database_listener_deaf');
      this.#sockets.cutSilent(0);
    }
    await this.database
      .run('listener heartbeat', (sql) => sql`select ${notice(sql, 'heartbeat', this.#id)}`)
      // `run` has logged it; the next beat tries again.
      .catch(() => undefined);
  }
}
