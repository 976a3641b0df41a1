import { randomBytes } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import {
  type EmbeddedPostgres,
  startEmbeddedPostgres,
} from '@lambda-fleet/common/embedded-postgres/start-embedded-postgres';
import { pino } from 'pino';
import { Database } from './database.js';
import { migrateDatabase } from './migrate.js';

/** A real PostgreSQL with the current schema, for tests. Close it: it leaves nothing behind. */
export interface TestPostgres {
  readonly database: Database;
  readonly url: string;
  /** The server at this moment; replaced by {@link restart}. */
  readonly server: EmbeddedPostgres;
  /** Kills the server and starts it again on the same data, calling `whileDown` in between. */
  restart(whileDown?: () => Promise<void>): Promise<void>;
  close(): Promise<void>;
}

export async function startTestPostgres(): Promise<TestPostgres> {
  const log = pino({ level: 'silent' });
  // Not below a 0700 folder: as root the server runs as another uid.
  const root = `/tmp/lf-test-${randomBytes(4).toString('hex')}`;
  // Durability costs seconds here and proves nothing about our code.
  const settings = ['fsync=off', 'full_page_writes=off'];
  const start = () => startEmbeddedPostgres({ dataDir: `${root}/data`, socketDir: `${root}/socket`, log, settings });
  let server = await start();
  const { url } = server;
  await migrateDatabase({ url, log });
  const database = new Database({ url, log });
  return {
    database,
    url,
    get server() {
      return server;
    },
    async restart(whileDown) {
      process.kill(server.pid, 'SIGKILL');
      await server.exited;
      await whileDown?.();
      server = await start();
    },
    async close() {
      await database.close();
      await server.stop();
      await rm(dirname(server.dataDir), { recursive: true, force: true });
      await rm(root, { recursive: true, force: true });
    },
  };
}
