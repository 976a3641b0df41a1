import { pino } from 'pino';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { startTestPostgres, type TestPostgres } from '../db/test-postgres.js';
import { type ExecutionRetention, ExecutionSweep } from './execution-sweep.js';

const log = pino({ level: 'silent' });
const FOREVER: ExecutionRetention = { days: 3_650, perProjectMax: 1_000_000_000 };

describe('ExecutionSweep', () => {
  let postgres: TestPostgres;
  beforeAll(async () => {
    postgres = await startTestPostgres();
    await postgres.database.run('project', (sql) => sql`insert into projects (project_id) values ('other')`);
  });
  afterAll(() => postgres.close());
  beforeEach(async () => {
    await postgres.database.run('empty', (sql) => sql`truncate executions, execution_bodies`);
  });

  /** Records so many executions of a project as if that had been so many hours ago. */
  const store = (count: number, hoursAgo = 0, project = 'default') =>
    postgres.database.run(
      'store',
      (sql) => sql`
        insert into executions (
          id, project_id, function_id, function_name, version_id, version_number, trigger, epoch, outcome, receipt,
          started_at, finished_at, recorded_at
        )
        select uuidv7(make_interval(hours => ${-hoursAgo}::integer) + n * interval '1 microsecond'), ${project}, ${uuidv7()}, 'f',
          ${uuidv7()}, 1, 'api', 1, 'success', '{}', now(), now(), now() - make_interval(hours => ${hoursAgo}::integer)
        from generate_series(1, ${count}::integer) n`,
    );
  const storeBodies = (count: number, hoursAgo: number, bytes = 1) =>
    postgres.database.run(
      'store bodies',
      (sql) => sql`
        insert into execution_bodies (execution_id, project_id, input, kept_at)
        select uuidv7(), 'default', convert_to(repeat('x', ${bytes}::integer), 'UTF8'), now() - make_interval(hours => ${hoursAgo}::integer)
        from generate_series(1, ${count}::integer)`,
    );
  const kept = async (project = 'default'): Promise<number> => {
    const [row] = await postgres.database.run(
      'kept',
      (sql) => sql<{ n: number }[]>`select count(*)::integer as n from executions where project_id = ${project}`,
    );
    return row?.n ?? -1;
  };
  const bodies = async (): Promise<number> => {
    const [row] = await postgres.database.run(
      'bodies',
      (sql) => sql<{ n: number }[]>`select count(*)::integer as n from execution_bodies`,
    );
    return row?.n ?? -1;
  };
  const sweepOf = (retention: Partial<ExecutionRetention>) =>
    new ExecutionSweep(postgres.database, { ...FOREVER, ...retention }, log);
  const sweep = async (retention: Partial<ExecutionRetention>): Promise<number> => {
    const swept = sweepOf(retention);
    try {
      return await swept.run();
    } finally {
      swept.close();
    }
  };

  it('removes what is too old, in as many statements as it takes', async () => {
    await store(5_500, 31 * 24);
    await store(20, 29 * 24);
    await store(20);
    expect(await sweep({ days: 30 })).toBe(5_500);
    expect(await kept()).toBe(40);
    expect(await sweep({ days: 30 })).toBe(0);
  });

  it('removes the oldest of a project that has too many, and none of another one’s', async () => {
    await store(2_500, 3);
    await store(1_000);
    await store(900, 5, 'other');
    expect(await sweep({ perProjectMax: 1_000 })).toBe(2_500);
    expect(await kept()).toBe(1_000);
    expect(await kept('other')).toBe(900);
    const [oldest] = await postgres.database.run(
      'oldest',
      (sql) =>
        sql`select min(recorded_at) > now() - interval '1 hour' as new from executions where project_id = 'default'`,
    );
    expect(oldest).toEqual({ new: true });
  });

  it('notices what was recorded since the last time, and looks only when that may be too much', async () => {
    await store(990, 1);
    const swept = sweepOf({ perProjectMax: 1_000 });
    try {
      expect(await swept.run()).toBe(0);
      await store(20);
      // A hundredth more than the most is borne.
      expect(await swept.run()).toBe(0);
      await store(1);
      expect(await swept.run()).toBe(11);
      expect(await kept()).toBe(1_000);
      expect(await swept.run()).toBe(0);
    } finally {
      swept.close();
    }
  });

  it('removes bodies a day after they were kept, and leaves their executions', async () => {
    await store(3);
    await storeBodies(45, 25, 200_000);
    await storeBodies(5, 23);
    expect(await sweep({})).toBe(0);
    expect(await bodies()).toBe(5);
    expect(await kept()).toBe(3);
  });

  it('two sweeps at once remove every execution once', async () => {
    await store(8_000, 2);
    await store(500);
    const removed = await Promise.all([1, 2].map(() => sweep({ perProjectMax: 500 })));
    expect((removed[0] as number) + (removed[1] as number)).toBe(8_000);
    expect(await kept()).toBe(500);
  });
});
