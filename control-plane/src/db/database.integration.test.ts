import { FleetError } from '@lambda-fleet/common/errors';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { migrateDatabase } from './migrate.js';
import { NotificationListener, notice } from './notification-listener.js';
import { startTestPostgres, type TestPostgres } from './test-postgres.js';

const log = pino({ level: 'silent' });

describe('the database', () => {
  let postgres: TestPostgres;
  beforeAll(async () => {
    postgres = await startTestPostgres();
  });
  afterAll(() => postgres.close());

  it('has the default project after migrating, however often and however many replicas migrate', async () => {
    await Promise.all([1, 2, 3].map(() => migrateDatabase({ url: postgres.url, log })));
    const rows = await postgres.database.run(
      'projects',
      (sql) => sql<{ projectId: string }[]>`select project_id from projects`,
    );
    expect(rows.map((row) => row.projectId)).toEqual(['default']);
  });

  it('fails statements as unavailable while the server is down and heals by itself', async () => {
    const { database } = postgres;
    const ping = () => database.run('ping', (sql) => sql`select 1 as one`);
    const listener = new NotificationListener(database, log);
    const heard: string[] = [];
    let restored = 0;
    listener.onRestored(() => {
      restored += 1;
    });
    listener.on('functions', (payload) => heard.push(payload));
    listener.start();
    try {
      await vi.waitFor(() => expect(restored).toBe(1), 5_000);
      const slow = database.run('slow', (sql) => sql`select pg_sleep(4)`).catch((err: unknown) => err);
      await ping();
      await postgres.restart(async () => {
        expect(await slow).toMatchObject({ code: 'unavailable' });
        await expect(ping()).rejects.toBeInstanceOf(FleetError);
      });
      await vi.waitFor(ping, { timeout: 10_000, interval: 50 });
      await vi.waitFor(() => expect(restored).toBe(2), { timeout: 10_000 });
      await database.run('notify', (sql) => sql`select ${notice(sql, 'functions', 'again')}`);
      await vi.waitFor(() => expect(heard).toEqual(['again']), 5_000);
    } finally {
      await listener.close();
    }
  });

  it('gives up on a frozen server at the deadline and works again once it thaws', async () => {
    const { database, server } = postgres;
    const ping = () => database.run('ping', (sql) => sql`select 1 as one`);
    const [backend] = await database.run('pid', (sql) => sql<{ pid: number }[]>`select pg_backend_pid() as pid`);
    const frozen = [server.pid, Number(backend?.pid)];
    for (const pid of frozen) process.kill(pid, 'SIGSTOP');
    try {
      const before = await Promise.allSettled(Array.from({ length: 12 }, ping));
      expect(before.some((result) => result.status === 'rejected')).toBe(true);
    } finally {
      for (const pid of frozen) process.kill(pid, 'SIGCONT');
    }
    await vi.waitFor(ping, { timeout: 10_000, interval: 50 });
  });

  it('says unavailable for a statement that takes too long', async () => {
    const slow = postgres.database.run('slow', (sql) => sql`select pg_sleep(20)`);
    await expect(slow).rejects.toMatchObject({ code: 'unavailable' });
  });
});
