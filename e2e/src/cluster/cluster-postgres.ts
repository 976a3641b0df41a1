import { setTimeout as sleep } from 'node:timers/promises';
import {
  type EmbeddedPostgres,
  startEmbeddedPostgres,
} from '@lambda-fleet/common/embedded-postgres/start-embedded-postgres';
import { pino } from 'pino';
import postgres from 'postgres';
import { descendantsOf } from '../fleet/processes.js';

/** The database of a cluster: a real server, which can be ended and frozen, and comes back at the same address. */
export class ClusterPostgres {
  #server: EmbeddedPostgres | undefined;

  constructor(private readonly places: { readonly dataDir: string; readonly socketDir: string }) {}

  get url(): string {
    return this.#running.url;
  }

  async start(): Promise<void> {
    this.#server = await startEmbeddedPostgres({ ...this.places, log: pino({ level: 'silent' }) });
  }

  async stop(): Promise<void> {
    await this.#server?.stop();
  }

  /** Whether it has ended by itself, as it does when it cannot write its log. */
  async ended(): Promise<boolean> {
    return await Promise.race([this.#running.exited.then(() => true), sleep(0).then(() => false)]);
  }

  /** Lets nobody write, or everybody again. */
  async setReadOnly(readOnly: boolean): Promise<void> {
    const sql = postgres({ ...this.#running.connection, max: 1, onnotice: () => undefined });
    try {
      await sql.unsafe(`ALTER SYSTEM SET default_transaction_read_only = ${readOnly ? 'on' : 'off'}`);
      await sql`SELECT pg_reload_conf()`;
    } finally {
      await sql.end();
    }
  }

  /** As `pg_ctl -m immediate` ends it: nothing is written, and the next start recovers. */
  async endImmediately(): Promise<void> {
    const { pid, exited } = this.#running;
    process.kill(pid, 'SIGQUIT');
    await exited;
  }

  /** Frozen with all of its processes, until `resume`. */
  async pause(): Promise<void> {
    await this.#signal('SIGSTOP');
  }

  async resume(): Promise<void> {
    await this.#signal('SIGCONT');
  }

  /** Each backend is in a process group of its own. */
  async #signal(signal: NodeJS.Signals): Promise<void> {
    const { pid } = this.#running;
    process.kill(pid, signal);
    for (const backend of await descendantsOf(pid)) {
      try {
        process.kill(backend.pid, signal);
      } catch {
        // It has ended meanwhile.
      }
    }
  }

  get #running(): EmbeddedPostgres {
    if (this.#server === undefined) throw new Error('PostgreSQL has not started');
    return this.#server;
  }
}
