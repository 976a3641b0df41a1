import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { errorText, FleetError } from '@lambda-fleet/common/errors';
import type { Logger } from '@lambda-fleet/common/logger';
import { drizzle } from 'drizzle-orm/postgres-js';
import { migrate } from 'drizzle-orm/postgres-js/migrator';
import { driverClient, SocketTracker } from './connection-target.js';

/** `control-plane/migrations`, from `src/db` as well as from `dist/db`. */
const MIGRATIONS = fileURLToPath(new URL('../../migrations', import.meta.url));

/** Any number will do, as long as every release uses the same. */
const LOCK = 7_401_962;

/**
 * Brings the schema up to date, waiting for a server that is still starting. Replicas that start together
 * take turns; a connection of its own holds the lock, and its end releases it.
 *
 * @throws FleetError `unavailable` when it is not done after `deadlineMs` (default 60 s).
 */
export async function migrateDatabase(options: {
  url: string;
  log: Logger;
  deadlineMs?: number;
  /** For tests. */
  migrationsFolder?: string;
}): Promise<void> {
  const { url, log, deadlineMs = 60_000, migrationsFolder = MIGRATIONS } = options;
  const giveUpAt = performance.now() + deadlineMs;
  for (;;) {
    const sockets = new SocketTracker();
    const client = driverClient(url, sockets, {
      max: 1,
      connection: { application_name: 'lambda-migrations', statement_timeout: deadlineMs },
      // The migrator reads `created_at` by that name. Under another one it finds no migration to be newer than the last.
      transform: {},
    });
    // Cut at the end of the time, whatever state the connection is in.
    const guard = setTimeout(() => sockets.cutSilent(0), Math.max(0, giveUpAt - performance.now()));
    try {
      await client`select pg_advisory_lock(${LOCK})`;
      const startedAt = performance.now();
      await migrate(drizzle({ client }), { migrationsFolder });
      log.info({ ms: Math.round(performance.now() - startedAt) }, 'database_migrated');
      return;
    } catch (err) {
      if (performance.now() + 250 > giveUpAt || !isConnectionError(err)) {
        throw new FleetError('unavailable', `The database could not be prepared: ${errorText(err)}`, undefined, {
          cause: err,
        });
      }
      log.debug({ reason: errorText(err) }, 'database_not_ready');
      await delay(250);
    } finally {
      clearTimeout(guard);
      await client.end({ timeout: 1 });
    }
  }
}

/** 57P03: the server is starting up. Everything that is not a statement's own fault is worth another try. */
function isConnectionError(err: unknown): boolean {
  const code = err instanceof Error && 'code' in err ? String(err.code) : '';
  return code === '57P03' || /^(CONNECT|E[A-Z]+$)/.test(code);
}
