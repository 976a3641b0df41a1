import { pino } from 'pino';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Database } from '../db/database.js';
import { startTestPostgres, type TestPostgres } from '../db/test-postgres.js';
import { WHOLE_PROJECT } from './add-figures.js';
import { MetricRoller } from './metric-roller.js';
import { nextStep, rollStep } from './roll-executions.js';
import { forgetFigures, recordAgo, type TestExecution } from './test-executions.js';

const log = pino({ level: 'silent' });
const DAY_S = 24 * 3_600;

interface Row {
  readonly functionId: string;
  readonly at: Date;
  readonly invocations: number;
  readonly durations: Record<string, number>;
  readonly cpus: Record<string, number>;
}

describe('MetricRoller', () => {
  let postgres: TestPostgres;
  beforeAll(async () => {
    postgres = await startTestPostgres();
  });
  afterAll(() => postgres.close());
  beforeEach(() => forgetFigures(postgres.database, 8 * DAY_S));

  const closing: (() => Promise<void>)[] = [];
  afterEach(async () => {
    for (const close of closing.splice(0)) await close();
  });
  const newRoller = (database = postgres.database): MetricRoller => {
    const roller = new MetricRoller(database, log);
    closing.push(() => roller.close());
    return roller;
  };

  const functionId = uuidv7();
  const many = (count: number, of: Partial<TestExecution> = {}): TestExecution[] =>
    Array.from({ length: count }, () => ({ functionId, receipt: { start: 'warm', runMs: 10, cpuMs: 2 }, ...of }));
  const rows = (per: 'minute' | 'hour'): Promise<Row[]> =>
    postgres.database.run(
      'rows',
      (sql) =>
        sql<Row[]>`select *, ${sql(per)} as at from ${sql(`function_${per}s`)} order by ${sql(per)}, function_id`,
    );
  const counted = async (per: 'minute' | 'hour', of = functionId): Promise<number> =>
    (await rows(per)).filter((row) => row.functionId === of).reduce((sum, row) => sum + row.invocations, 0);
  /** Lets so many seconds pass for the rows. */
  const pass = async (seconds: number): Promise<void> => {
    await postgres.database.run(
      'pass',
      (sql) => sql`
        with moved as (update metric_progress set rolled_until = rolled_until - ${seconds} * interval '1 second')
        update executions set recorded_at = recorded_at - ${seconds} * interval '1 second'`,
    );
  };
  const progressAgeSeconds = async (): Promise<number> => {
    const [row] = await postgres.database.run(
      'age',
      (sql) => sql<{ age: number }[]>`
        select extract(epoch from now() - rolled_until)::float8 as age from metric_progress`,
    );
    return row?.age ?? Number.NaN;
  };

  it('adds up outcomes, starts, times and the peak of memory, of the function and of its project', async () => {
    const other = uuidv7();
    await recordAgo(postgres.database, 100, [
      { functionId, receipt: { start: 'cold', runMs: 100, cpuMs: 50, memoryPeakBytes: 5_000_000_000 } },
      { functionId, receipt: { start: 'blank', runMs: 100, cpuMs: 50, shared: true, memoryPeakBytes: 7 } },
      { functionId, outcome: 'function_error', receipt: { start: 'warm', runMs: 0 } },
      { functionId, outcome: 'timeout', receipt: { start: 'warm', runMs: 3_000, memoryPeakBytes: 1.8e19 } },
      { functionId, outcome: 'outcome_unknown', receipt: {} },
      { functionId, outcome: 'not_started', receipt: {} },
      { functionId: other, functionName: 'other', receipt: { start: 'warm', runMs: 100 } },
      { functionId: uuidv7(), functionName: 'job', trigger: 'job', receipt: { start: 'cold', runMs: 5 } },
    ]);
    expect(await newRoller().run()).toBe(7);
    for (const per of ['minute', 'hour'] as const) {
      const all = await rows(per);
      expect(all.map((row) => row.functionId)).toEqual([WHOLE_PROJECT, functionId, other]);
      expect(all[1]).toMatchObject({
        ...{ functionName: 'greet', invocations: 6, functionErrors: 1, timeouts: 1, outcomeUnknown: 1, notStarted: 1 },
        ...{ throttles: 0, cold: 1, blank: 1, warm: 2, durationMs: 3_200, cpuMs: 50, memoryPeakBytes: 1e15 },
      });
      expect(all[0]).toMatchObject({ functionName: '', invocations: 7, warm: 3, durationMs: 3_300 });
      const bucketOf100 = String(Math.ceil(Math.log(100) / Math.log(1.04)));
      expect(all[1]?.durations).toMatchObject({ [bucketOf100]: 2 });
      expect(all[0]?.durations).toMatchObject({ [bucketOf100]: 3 });
      expect(Object.values(all[1]?.cpus ?? {})).toEqual([1]);
    }
  });

  it('leaves what may not be complete yet, and adds it later', async () => {
    await recordAgo(postgres.database, 15, many(3));
    await recordAgo(postgres.database, -60, many(4));
    const roller = newRoller();
    expect(await roller.run()).toBe(3);
    expect(await roller.run()).toBe(0);
    await pass(80);
    expect(await roller.run()).toBe(4);
    expect(await counted('hour')).toBe(7);
  });

  it('waits for a statement that is still writing, whose rows carry the time at which it began', async () => {
    const writer = new Database({ url: postgres.url, log });
    closing.push(() => writer.close());
    const writing = writer.run(
      'write slowly',
      (sql) => sql`
        with written as (insert into projects (project_id) values (${uuidv7()}) returning 1)
        select pg_sleep(4) from written`,
    );
    writing.catch(() => undefined);
    const began = async (): Promise<string | undefined> => {
      const [row] = await postgres.database.run(
        'began',
        (sql) => sql<{ at: string }[]>`
          select min(xact_start)::text as at from pg_stat_activity
          where query like '%pg_sleep(4)%' and backend_xid is not null and pid <> pg_backend_pid()`,
      );
      return row?.at ?? undefined;
    };
    await expect.poll(began, { timeout: 4_000 }).toBeDefined();
    const at = (await began()) ?? '';
    expect((await nextStep(postgres.database, 100, 0))?.to).toBe(at);
    await postgres.database.run(
      'cancel',
      (sql) => sql`
        select pg_cancel_backend(pid) from pg_stat_activity
        where query like '%pg_sleep(4)%' and pid <> pg_backend_pid()`,
    );
    await expect(writing).rejects.toThrow();
    expect(new Date((await nextStep(postgres.database, 100, 0))?.to ?? 0) > new Date(at)).toBe(true);
  });

  it('two rollers at once add every execution once', async () => {
    for (let minute = 1; minute <= 10; minute += 1) await recordAgo(postgres.database, minute * 60, many(300));
    const second = new Database({ url: postgres.url, log });
    closing.push(() => second.close());
    const rollers = [newRoller(), newRoller(second)];
    const race = async (roller: MetricRoller): Promise<number> => {
      let added = 0;
      for (let round = 0; round < 20; round += 1) added += await roller.run();
      return added;
    };
    const added = await Promise.all(rollers.map(race));
    expect(added.reduce((sum, count) => sum + count)).toBe(3_000);
    expect([await counted('minute'), await counted('hour'), await counted('hour', WHOLE_PROJECT)]).toEqual([
      3_000, 3_000, 3_000,
    ]);
  });

  it('a step that two have found is taken by one, and small steps add up like a big one', async () => {
    await recordAgo(postgres.database, 130, many(10));
    await recordAgo(postgres.database, 100, many(10, { receipt: { runMs: 20 } }));
    await recordAgo(postgres.database, 70, many(10));
    for (let round = 0; round < 2; round += 1) {
      const step = await nextStep(postgres.database, 10);
      if (step === undefined) throw new Error('there is a step');
      expect(step.more).toBe(true);
      const taken = await Promise.all([rollStep(postgres.database, step), rollStep(postgres.database, step)]);
      expect(taken.sort()).toEqual([10, undefined]);
      expect(await rollStep(postgres.database, step)).toBeUndefined();
    }
    expect(await newRoller().run()).toBe(10);
    const hours = (await rows('hour')).filter((row) => row.functionId === functionId);
    expect(hours.reduce((sum, { durations }) => sum + Object.values(durations).reduce((a, b) => a + b), 0)).toBe(30);
  });

  it('more executions of one moment than a step holds do not stop it', async () => {
    await recordAgo(postgres.database, 60, many(50));
    for (let step = await nextStep(postgres.database, 10); step; step = await nextStep(postgres.database, 10)) {
      await rollStep(postgres.database, step);
    }
    expect(await counted('minute')).toBe(50);
  });

  it('what is killed between or within its steps has added all of a step or nothing', { timeout: 60_000 }, async () => {
    for (let minute = 1; minute <= 20; minute += 1) await recordAgo(postgres.database, minute * 60, many(500));
    const first = await nextStep(postgres.database, 2_000);
    if (first === undefined) throw new Error('there is a step');
    expect(await rollStep(postgres.database, first)).toBe(2_000);
    const found = await nextStep(postgres.database, 2_000);
    if (found === undefined) throw new Error('there is a step');
    const dying = rollStep(postgres.database, found).catch(() => 'died');
    await postgres.restart();
    await dying;
    await expect
      .poll(async () => {
        await newRoller().run();
        return counted('hour').catch(() => 0);
      })
      .toBe(10_000);
    expect(await counted('minute')).toBe(10_000);
  });

  it('goes on after a long pause, past stretches without executions', async () => {
    await recordAgo(postgres.database, 7 * DAY_S, many(1));
    await recordAgo(postgres.database, 3 * DAY_S, many(2));
    await recordAgo(postgres.database, 60, many(3));
    expect(await newRoller().run()).toBe(6);
    expect((await rows('minute')).filter((row) => row.functionId === functionId).map((row) => row.invocations)).toEqual(
      [1, 2, 3],
    );
    expect(await progressAgeSeconds()).toBeLessThan(60);
  });

  it('an outcome that was unknown when its minute was added stays so there', async () => {
    await recordAgo(postgres.database, 60, many(1, { outcome: 'outcome_unknown' }));
    const roller = newRoller();
    await roller.run();
    await postgres.database.run('learn', (sql) => sql`update executions set outcome = 'success'`);
    expect(await roller.run()).toBe(0);
    expect((await rows('minute'))[1]).toMatchObject({ invocations: 1, outcomeUnknown: 1 });
  });
});
