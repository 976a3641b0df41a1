import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startTestPostgres, type TestPostgres } from '../db/test-postgres.js';
import { type Execution, type ExecutionFilter, ExecutionTable } from './execution-table.js';

const MINUTE_MS = 60_000;

/** A million would be as fast to read and slow to make. */
const MANY = 200_000;

describe('ExecutionTable', () => {
  let postgres: TestPostgres;
  let table: ExecutionTable;
  beforeAll(async () => {
    postgres = await startTestPostgres();
    table = new ExecutionTable(postgres.database);
    await postgres.database.run('project', (sql) => sql`insert into projects (project_id) values ('other'), ('many')`);
  });
  afterAll(() => postgres.close());

  interface Stored {
    readonly name?: string;
    readonly outcome?: string;
    readonly trigger?: string;
    readonly at?: number;
    readonly project?: string;
  }
  const store = async ({
    name = 'f',
    outcome = 'success',
    trigger = 'api',
    at = Date.now(),
    project = 'default',
  }: Stored) => {
    const id = uuidv7({ msecs: at });
    await postgres.database.run(
      'store',
      (sql) => sql`
        insert into executions (
          id, project_id, function_id, function_name, version_id, version_number, trigger, epoch, outcome, receipt,
          started_at, finished_at
        ) values (
          ${id}, ${project}, ${uuidv7()}, ${name}, ${uuidv7()}, 1, ${trigger}, 1, ${outcome}, '{}', ${new Date(at)}, ${new Date(at)}
        )`,
    );
    return id;
  };
  const idsOf = (executions: readonly Execution[]) => executions.map(({ id }) => id);
  const list = async (filter: Partial<ExecutionFilter>, project = 'default') =>
    idsOf((await table.list(project, { limit: 50, ...filter })).executions);

  it('finds what was asked for between two times, by status, function and trigger, newest first', async () => {
    const now = Date.now();
    const ago = (minutes: number) => new Date(now - minutes * MINUTE_MS);
    const old = await store({ at: now - 90 * MINUTE_MS });
    const failed = await store({ at: now - 60 * MINUTE_MS, outcome: 'function_error', name: 'g' });
    const timedOut = await store({ at: now - 30 * MINUTE_MS, outcome: 'timeout', trigger: 'http' });
    const unknown = await store({ at: now - 20 * MINUTE_MS, outcome: 'outcome_unknown' });
    const recent = await store({ at: now });
    await store({ project: 'other' });

    expect(await list({})).toEqual([recent, unknown, timedOut, failed, old]);
    expect(await list({ since: ago(60) })).toEqual([recent, unknown, timedOut, failed]);
    expect(await list({ since: ago(59) })).toEqual([recent, unknown, timedOut]);
    expect(await list({ until: ago(60) })).toEqual([old]);
    expect(await list({ since: ago(61), until: ago(29) })).toEqual([timedOut, failed]);
    expect(await list({ since: new Date(8.64e15) })).toEqual([]);
    expect(await list({ status: 'succeeded' })).toEqual([recent, old]);
    expect(await list({ status: 'failed' })).toEqual([failed]);
    expect(await list({ status: 'failed', functionName: 'f' })).toEqual([]);
    expect(await list({ status: 'timed_out', trigger: 'http' })).toEqual([timedOut]);
    expect(await list({ status: 'unknown', outcome: 'outcome_unknown' })).toEqual([unknown]);
    expect(await list({ status: 'unknown', outcome: 'success' })).toEqual([]);
    expect(await list({ outcome: 'timeout' })).toEqual([timedOut]);
  });

  it('goes on where a page ended', async () => {
    const ids: string[] = [];
    for (let n = 0; n < 5; n += 1) ids.unshift(await store({ name: 'paged', at: 1_700_000_000_000 + n }));
    const filter = { functionName: 'paged', limit: 2 };
    const first = await table.list('default', filter);
    const second = await table.list('default', { ...filter, beforeId: first.nextBeforeId ?? '' });
    const third = await table.list('default', { ...filter, beforeId: second.nextBeforeId ?? '' });
    expect([first, second, third].flatMap(({ executions }) => idsOf(executions))).toEqual(ids);
    expect(third.nextBeforeId).toBeUndefined();
  });

  it('shows no execution of another project', async () => {
    const id = await store({ project: 'other' });
    expect(await table.get('other', id)).toMatchObject({ id, status: 'succeeded', attempts: 1, acceptedAt: null });
    await expect(table.get('default', id)).rejects.toMatchObject({ code: 'execution_not_found' });
  });

  describe(`of ${MANY} executions`, () => {
    let rare: string;
    let failed: readonly string[];
    beforeAll(async () => {
      const from = Date.now() - MANY * 10;
      rare = await store({ project: 'many', trigger: 'job', at: from - 1_000 });
      const step = 25_000;
      for (let at = 0; at < MANY; at += step) {
        await postgres.database.run(
          'store many',
          (sql) => sql`
            insert into executions (
              id, project_id, function_id, function_name, version_id, version_number, trigger, epoch, outcome, receipt,
              started_at, finished_at
            )
            select uuidv7(make_interval(secs => (n - ${MANY}::integer) / 100.0)), 'many', gen_random_uuid(), 'f' || n % 20,
              gen_random_uuid(), 1, 'api', 1, case when n % 10000 = 7 then 'function_error' else 'success' end,
              '{"start": "warm", "runMs": 1.5}', now(), now()
            from generate_series(${at + 1}::integer, ${at + step}::integer) n`,
        );
      }
      failed = await list({ status: 'failed', limit: 1_000 }, 'many');
    });

    it('finds what failed, of all functions or of one, without looking at what went well', async () => {
      expect(failed).toHaveLength(MANY / 10_000);
      expect(await list({ status: 'failed', functionName: 'f7', limit: 1_000 }, 'many')).toEqual(failed);
      expect(await list({ status: 'failed', functionName: 'f8' }, 'many')).toEqual([]);
      for (const functionName of [undefined, 'f7']) {
        const [plan] = await postgres.database.run(
          'explain',
          (sql) => sql<{ 'QUERY PLAN': unknown }[]>`
            explain (format json) select id from executions
            where project_id = 'many' ${functionName === undefined ? sql`` : sql`and function_name = ${functionName}`}
              and outcome <> 'success' and outcome = 'function_error'
            order by id desc limit 51`,
        );
        // Either of the two: both hold failures only.
        expect(JSON.stringify(plan)).toContain('"Index Name":"executions_failed');
      }
    });

    it('breaks off a search for something rare, and finds it on a later page', async () => {
      const pages = [];
      for (let beforeId: string | undefined; pages.length < 5; ) {
        const page = await table.list('many', { trigger: 'job', limit: 10, ...(beforeId && { beforeId }) });
        pages.push(idsOf(page.executions));
        beforeId = page.nextBeforeId;
        if (beforeId === undefined) break;
      }
      expect(pages).toEqual([[], [], [rare]]);
    });
  });
});
