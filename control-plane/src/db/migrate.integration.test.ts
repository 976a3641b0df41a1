import { randomBytes } from 'node:crypto';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  type EmbeddedPostgres,
  startEmbeddedPostgres,
} from '@lambda-fleet/common/embedded-postgres/start-embedded-postgres';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Database } from './database.js';
import { migrateDatabase } from './migrate.js';

const log = pino({ level: 'silent' });
const MIGRATIONS = fileURLToPath(new URL('../../migrations', import.meta.url));

interface Journal {
  readonly entries: readonly { readonly tag: string }[];
}

const journal: Journal = JSON.parse(await readFile(join(MIGRATIONS, 'meta/_journal.json'), 'utf8'));

/** Columns and indexes of a database, as text. */
async function shapeOf(database: Database): Promise<string> {
  const rows = await database.run(
    'shape',
    (sql) => sql<{ line: string }[]>`
      select table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable || ' ' || coalesce(column_default, '') as line
      from information_schema.columns where table_schema = 'public'
      union all select indexdef from pg_indexes where schemaname = 'public' order by 1`,
  );
  return rows.map(({ line }) => line).join('\n');
}

describe('the database of an earlier release', () => {
  const root = `/tmp/lf-test-${randomBytes(4).toString('hex')}`;
  let server: EmbeddedPostgres;
  let folder = '';
  let today = '';
  beforeAll(async () => {
    server = await startEmbeddedPostgres({
      dataDir: `${root}/data`,
      socketDir: `${root}/socket`,
      log,
      settings: ['fsync=off'],
    });
    folder = await mkdtemp(join(tmpdir(), 'lf-migrations-'));
    const fresh = await empty('fresh');
    await migrateDatabase({ url: fresh.url, log });
    today = await shapeOf(fresh);
    await fresh.close();
  });
  afterAll(async () => {
    await server?.stop();
    await rm(root, { recursive: true, force: true });
    await rm(folder, { recursive: true, force: true });
  });

  const empty = async (name: string): Promise<Database> => {
    const admin = new Database({ url: server.url, log, connectionsMax: 1 });
    await admin.run('create database', (sql) => sql`create database ${sql(name)}`);
    await admin.close();
    const url = new URL(server.url);
    url.pathname = `/${name}`;
    return new Database({ url: url.href, log, connectionsMax: 1 });
  };
  /** The migrations as they were when `tag` was the newest. */
  const until = async (tag: string): Promise<string> => {
    const copy = join(folder, tag);
    await cp(MIGRATIONS, copy, { recursive: true });
    const entries = journal.entries.slice(0, journal.entries.findIndex((entry) => entry.tag === tag) + 1);
    await writeFile(join(copy, 'meta/_journal.json'), JSON.stringify({ ...journal, entries }));
    return copy;
  };

  it.each(journal.entries.map(({ tag }) => tag))(
    'is brought up to date from %s, with what is in it, and then left',
    async (tag) => {
      const database = await empty(tag);
      try {
        await migrateDatabase({ url: database.url, log, migrationsFolder: await until(tag) });
        await database.run('fill', (sql) => sql`insert into projects (project_id) values ('mine')`);
        const ids = ['00000000-0000-7000-8000-000000000001', '00000000-0000-7000-8000-000000000002'] as const;
        await database.run(
          'fill',
          (sql) => sql`
          insert into log_lines (project_id, function_id, execution_id, version_id, sequence, at, stream, level, text)
          values ('mine', ${ids[0]}, ${ids[1]}, ${ids[0]}, 0, now(), 'stdout', '', 'a line')`,
        );
        await migrateDatabase({ url: database.url, log });
        expect(await shapeOf(database)).toBe(today);
        const [line] = await database.run(
          'read',
          (sql) => sql<{ text: string; epoch: number }[]>`select * from log_lines`,
        );
        expect(line).toMatchObject({ text: 'a line', epoch: 1 });
        await migrateDatabase({ url: database.url, log });
      } finally {
        await database.close();
      }
    },
  );
});
