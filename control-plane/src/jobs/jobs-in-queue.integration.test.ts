import { readFile } from 'node:fs/promises';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findAdrift } from '../async/find-running.js';
import { startTestPostgres, type TestPostgres } from '../db/test-postgres.js';
import { JobTable } from './job-table.js';

const MIGRATION = new URL('../../migrations/0011_jobs_in_queue.sql', import.meta.url);

interface OldJob {
  readonly status?: string;
  readonly args?: string;
  readonly attempts?: number;
  readonly executionIds?: readonly string[];
  readonly startedAt?: Date;
}

describe('jobs of the release that had a runner for them', () => {
  let postgres: TestPostgres;
  beforeAll(async () => {
    postgres = await startTestPostgres();
  });
  afterAll(() => postgres.close());

  const insert = async ({ status = 'queued', args = '{}', attempts = 0, ...more }: OldJob): Promise<string> => {
    const id = uuidv7();
    const row = {
      ...{
        id,
        project_id: 'default',
        status,
        runtime: 'nodejs',
        memory_mb: 128,
        timeout_ms: 1_000,
        init_timeout_ms: 1_000,
      },
      ...{ retries: 1, code: 'return 1', args, args_bytes: Buffer.byteLength(args), attempts },
      ...{ started_at: more.startedAt ?? null, finished_at: status === 'failed' ? new Date() : null },
      ...(status === 'running' && { node_id: 'n1', boot_id: 'boot-1' }),
    };
    const executionIds = more.executionIds ?? [];
    await postgres.database.run(
      'old job',
      (sql) => sql`insert into jobs ${sql({ ...row, execution_ids: sql.json([...executionIds]) as never })}`,
    );
    return id;
  };

  it('are in the queue after the migration, and what runs is left alone until it must be over', async () => {
    const { database } = postgres;
    const attemptId = uuidv7();
    const long = JSON.stringify('é'.repeat(40_000));
    const [queued, big, done] = [
      await insert({ args: '{"a":"é"}' }),
      await insert({ args: long }),
      await insert({ status: 'failed' }),
    ];
    const running = await insert({
      ...{ status: 'running', attempts: 1, executionIds: [attemptId], startedAt: new Date() },
    });
    const statements = (await readFile(MIGRATION, 'utf8')).split('--> statement-breakpoint');
    const moves = statements.filter((statement) => /^(INSERT|UPDATE)/m.test(statement));
    for (const move of moves) await database.run('move', (sql) => sql.unsafe(move));

    const rows = await database.run(
      'queue',
      (sql) => sql<{ id: string; payload: Buffer; status: string }[]>`select * from async_invocations order by id`,
    );
    expect(rows.map(({ id, status }) => [id, status])).toEqual([
      [queued, 'queued'],
      [big, 'queued'],
      [running, 'running'],
    ]);
    expect(rows.map(({ payload }) => payload.toString())).toEqual(['{"a":"é"}', long, '{}']);
    const lanes = await database.run('lanes', (sql) => sql`select queued, queued_bytes, jobs from lanes`);
    expect([...lanes]).toEqual([{ queued: 2, queuedBytes: 10 + Buffer.byteLength(long), jobs: true }]);

    const table = new JobTable(database);
    expect(await table.get('default', queued)).toMatchObject({ status: 'queued', args: '{"a":"é"}', attempts: 0 });
    expect(await table.get('default', big)).toMatchObject({ status: 'queued', args: null });
    expect(await table.get('default', done)).toMatchObject({ status: 'failed' });
    const shown = await table.get('default', running);
    expect(shown).toMatchObject({ status: 'running', attempts: 1, executionIds: [attemptId, running] });
    await expect.poll(() => findAdrift(database, 10)).toMatchObject([{ id: running, overdue: false, retries: 1 }]);
    await database.run('pass', (sql) => sql`update async_invocations set started_at = now() - interval '33 seconds'`);
    expect(await findAdrift(database, 10)).toMatchObject([{ id: running, overdue: true }]);
  });
});
