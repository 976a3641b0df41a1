import {
  type EmbeddedPostgres,
  startEmbeddedPostgres,
} from '@lambda-fleet/common/embedded-postgres/start-embedded-postgres';
import { pino } from 'pino';

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

  /** As `pg_ctl -m immediate` ends it: nothing is written, and the next start recovers. */
  async endImmediately(): Promise<void> {
    const { pid, exited } = this.#running;
    process.kill(pid, 'SIGQUIT');
    await exited;
  }

  /** Frozen with all of its processes, until `resume`. */
  pause(): void {
    process.kill(-this.#running.pid, 'SIGSTOP');
  }

  resume(): void {
    process.kill(-this.#running.pid, 'SIGCONT');
  }

  get #running(): EmbeddedPostgres {
    if (this.#server === undefined) throw new Error('PostgreSQL has not started');
    return this.#server;
  }
}
