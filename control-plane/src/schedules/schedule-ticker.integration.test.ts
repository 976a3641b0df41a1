import { pino } from 'pino';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { startTestPostgres, type TestPostgres } from '../db/test-postgres.js';
import { DueTicks } from './due-ticks.js';
import { ScheduleTable } from './schedule-table.js';
import { ScheduleTicker } from './schedule-ticker.js';
import { Schedules } from './schedules.js';
import { TickHistory } from './tick-history.js';
import { TickSweep } from './tick-sweep.js';

const log = pino({ level: 'silent' });
const LIMITS = { queuedMax: 1_000, queuedBytesMax: 64 * 1024 * 1024 };

interface Queued {
  readonly id: string;
  readonly laneId: string;
  readonly trigger: string;
  readonly payload: Buffer;
  readonly context: { readonly scheduleId: string; readonly tickAt: number };
  readonly notBefore: Date;
  readonly expiresAt: Date;
}

describe('the ticker of schedules', () => {
  let postgres: TestPostgres;
  const functionId = uuidv7();
  const tickers: ScheduleTicker[] = [];
  beforeAll(async () => {
    postgres = await startTestPostgres();
  });
  afterAll(() => postgres.close());
  beforeEach(async () => {
    await run((sql) => sql`truncate schedules, schedule_ticks, async_invocations, lanes, functions cascade`);
    await run(
      (sql) => sql`
        insert into functions (id, project_id, name, route, http_auth, latest_version_id, async_max_age_ms)
        values (${functionId}, 'default', 'report', 'report', 'key', ${uuidv7()}, 60000)`,
    );
  });
  afterEach(async () => {
    for (const ticker of tickers.splice(0)) await ticker.close();
  });

  const run = <T>(statement: Parameters<typeof postgres.database.run<T>>[1]) =>
    postgres.database.run<T>('test', statement);
  const queued = () =>
    run((sql) => sql<Queued[]>`select * from async_invocations order by (context ->> 'tickAt')::bigint`);
  /** As if these invocations had ended. */
  const end = () => run((sql) => sql`delete from async_invocations`);

  const schedulesWith = (ticker: { wake(): void }, limits = LIMITS): Schedules => {
    const { database } = postgres;
    const due = new DueTicks(database, limits);
    const table = new ScheduleTable(database);
    return new Schedules({ table, due, history: new TickHistory(database), ticker, perProjectMax: 100 });
  };
  /** Without a ticker of its own. */
  const quiet = (limits = LIMITS) => schedulesWith({ wake: () => {} }, limits);
  const start = (limits = LIMITS): ScheduleTicker => {
    const ticker = new ScheduleTicker(new DueTicks(postgres.database, limits), log);
    tickers.push(ticker);
    ticker.start();
    return ticker;
  };
  /** One look at what is due. */
  const tick = async (limits = LIMITS): Promise<void> => {
    const ticker = new ScheduleTicker(new DueTicks(postgres.database, limits), log);
    ticker.start();
    await settled();
    await ticker.close();
  };
  /** Nothing is due any more. */
  const settled = () =>
    expect
      .poll(() => run((sql) => sql`select id from schedules where enabled and next_tick_at <= now()`), {
        timeout: 10_000,
      })
      .toEqual([]);
  const create = async (body: object): Promise<string> =>
    (await quiet().create('default', { function: 'report', name: 's', ...body })).id;
  /** As if the next tick had been due so many seconds ago. */
  const setBack = (seconds: number, unit = 'second') =>
    run(
      (sql) => sql`
        update schedules set next_tick_at = date_trunc(${unit}, now()) - ${seconds} * interval '1 second',
          revision = revision + 1`,
    );
  const history = async (): Promise<string[]> => {
    const rows = await quiet().ticks('default', 's', undefined, 1_000);
    return rows.map(({ outcome, count }) => (count === 1 ? outcome : `${outcome} ×${count}`)).reverse();
  };

  it('two at once take every tick of a one-second schedule exactly once, also when one of them goes away', async () => {
    const first = start();
    start();
    const schedules = schedulesWith(first);
    const { id } = await schedules.create('default', {
      function: 'report',
      expression: '* * * * * *',
      overlap: 'allow',
    });
    await expect.poll(async () => (await queued()).length, { timeout: 20_000 }).toBeGreaterThan(2);
    await first.close();
    await expect.poll(async () => (await queued()).length, { timeout: 20_000 }).toBeGreaterThan(5);
    start();
    await expect.poll(async () => (await queued()).length, { timeout: 20_000 }).toBeGreaterThan(7);
    await schedules.pause('default', id);

    const invocations = await queued();
    const from = invocations[0]?.context.tickAt ?? Number.NaN;
    expect(invocations.map(({ context }) => context.tickAt)).toEqual(invocations.map((_, at) => from + at * 1_000));
    const recorded = await schedules.ticks('default', id, undefined, 1_000);
    expect(recorded.map(({ invocationId }) => invocationId).reverse()).toEqual(
      invocations.map((queuedOne) => queuedOne.id),
    );
    expect(new Set(recorded.map(({ outcome }) => outcome))).toEqual(new Set(['ran']));
  });

  it('many at once take each tick of many schedules once', async () => {
    const schedules = quiet();
    for (let at = 0; at < 60; at += 1) {
      await schedules.create('default', {
        function: 'report',
        name: `s${at}`,
        expression: '@yearly',
        overlap: 'allow',
      });
    }
    await setBack(0);
    for (let at = 0; at < 4; at += 1) start();
    await settled();
    const invocations = await queued();
    expect(invocations).toHaveLength(60);
    expect(new Set(invocations.map(({ context }) => context.scheduleId)).size).toBe(60);
    const [lane] = await run((sql) => sql<{ queued: number }[]>`select queued from lanes`);
    expect(lane).toEqual({ queued: 60 });
  });

  it('queues an event of EventBridge in the lane of the function, or the payload', async () => {
    const id = await create({ expression: '@yearly' });
    await setBack(0);
    await tick();
    const [invocation] = await queued();
    const { tickAt } = invocation?.context ?? expect.fail('nothing was queued');
    expect(invocation).toMatchObject({ laneId: functionId, trigger: 'schedule', context: { scheduleId: id, tickAt } });
    expect(JSON.parse(String(invocation?.payload))).toEqual({
      ...{ version: '0', id: invocation?.id, 'detail-type': 'Scheduled Event', source: 'aws.events' },
      ...{ account: '000000000000', region: 'local', detail: {} },
      time: new Date(tickAt).toISOString().replace('.000Z', 'Z'),
      resources: ['arn:aws:events:local:000000000000:rule/s'],
    });
    expect(invocation?.notBefore.getTime()).toBe(tickAt);
    expect((invocation?.expiresAt.getTime() ?? 0) - Date.now()).toBeGreaterThan(30_000);
    await end();
    await quiet().change('default', id, { payload: { a: ['ž', 1.5] } });
    await setBack(0);
    await tick();
    expect(String((await queued())[0]?.payload)).toBe('{"a":["ž",1.5]}');
  });

  it.each([-1, 1])(
    'a clock of this machine that is wrong by %i days takes no tick early, late or twice',
    async (days) => {
      const realNow = Date.now();
      vi.useFakeTimers({ now: realNow + days * 86_400_000, toFake: ['Date'] });
      try {
        const id = await create({ expression: '0 0 1 1 *', overlap: 'allow' });
        const { nextTickAt } = await quiet().get('default', id);
        expect(nextTickAt?.getTime()).toBeGreaterThan(realNow);
        await tick();
        expect(await queued()).toEqual([]);
        await setBack(0);
        await tick();
        await tick();
        expect(await queued()).toHaveLength(1);
        expect((await quiet().get('default', id)).nextTickAt).toEqual(nextTickAt);
      } finally {
        vi.useRealTimers();
      }
    },
  );

  it('jitter delays the invocation and not the tick, by the same for every replica', async () => {
    await create({ expression: '@yearly', jitterMs: 3_600_000 });
    await setBack(0);
    await tick();
    const [invocation] = await queued();
    const delay = (invocation?.notBefore.getTime() ?? 0) - (invocation?.context.tickAt ?? 0);
    expect(delay).toBeGreaterThan(0);
    expect(delay).toBeLessThanOrEqual(3_600_000);
    expect((invocation?.expiresAt.getTime() ?? 0) - (invocation?.notBefore.getTime() ?? 0)).toBeGreaterThanOrEqual(
      60_000,
    );
  });

  it('overlap skip: no tick is run while an invocation of an earlier one has not ended', async () => {
    await create({ expression: '@yearly' });
    for (let at = 0; at < 3; at += 1) {
      await setBack(0);
      await tick();
    }
    expect(await queued()).toHaveLength(1);
    await end();
    await setBack(0);
    await tick();
    expect(await history()).toEqual(['ran', 'skipped', 'skipped', 'ran']);
  });

  it('overlap queue: one tick waits, and is run when the earlier one has ended', async () => {
    const id = await create({ expression: '@yearly', overlap: 'queue' });
    for (let at = 0; at < 3; at += 1) {
      await setBack(0);
      await tick();
    }
    expect(await queued()).toHaveLength(1);
    expect(await history()).toEqual(['ran', 'waiting', 'skipped']);
    const { waitingTickAt } = await quiet().get('default', id);
    await end();
    start();
    await expect.poll(queued, { timeout: 10_000 }).toHaveLength(1);
    expect((await queued())[0]?.context.tickAt).toBe(waitingTickAt?.getTime());
    expect(await history()).toEqual(['ran', 'waiting', 'skipped', 'ran']);
    expect((await quiet().get('default', id)).waitingTickAt).toBeNull();
  });

  it('a pause gives up what waits', async () => {
    const id = await create({ expression: '@yearly', overlap: 'queue' });
    for (let at = 0; at < 2; at += 1) {
      await setBack(0);
      await tick();
    }
    const paused = await quiet().pause('default', id);
    expect(paused).toMatchObject({ enabled: false, nextTickAt: null, waitingTickAt: null, nextRuns: [] });
    expect(await history()).toEqual(['ran', 'waiting', 'skipped']);
    await end();
    await tick();
    expect(await queued()).toEqual([]);
  });

  it('overlap allow: every tick is run', async () => {
    await create({ expression: '@yearly', overlap: 'allow' });
    for (let at = 0; at < 3; at += 1) {
      await setBack(0);
      await tick();
    }
    expect(await queued()).toHaveLength(3);
  });

  it('after an outage runs what the window holds, and records the rest as missed', async () => {
    const id = await create({ expression: '* * * * *', overlap: 'allow', catchUpMs: 270_000 });
    await setBack(3_600, 'minute');
    await tick();
    const [missed, ...ran] = await history();
    // The window of four and a half minutes holds four or five ticks, as this minute has just begun or is over.
    expect([4, 5]).toContain(ran.length);
    expect([61, 62].map((all) => `missed ×${all - ran.length}`)).toContain(missed);
    expect(await queued()).toHaveLength(ran.length);
    await end();
    await quiet().change('default', id, { overlap: 'skip' });
    await setBack(3_600, 'minute');
    await tick();
    expect((await history()).slice(-2).join()).toMatch(/^missed ×6[01],ran$/);
    await quiet().change('default', id, { catchUpMs: 0, expression: '@yearly' });
    await end();
    await setBack(60);
    await tick();
    expect((await history()).at(-1)).toBe('missed');
    expect(await queued()).toEqual([]);
  });

  it('a full queue is recorded, and the next tick is tried again', async () => {
    await create({ expression: '@yearly', overlap: 'allow' });
    const full = { ...LIMITS, queuedMax: 1 };
    for (let at = 0; at < 3; at += 1) {
      await setBack(0);
      await tick(full);
    }
    expect(await history()).toEqual(['ran', 'queue_full', 'queue_full']);
    expect(await queued()).toHaveLength(1);
    await expect(quiet(full).runNow('default', 's')).rejects.toMatchObject({ code: 'throttled' });
  });

  it('what was decided by a state that is not true any more is not written', async () => {
    const due = new DueTicks(postgres.database, LIMITS);
    const id = await create({ expression: '@yearly', overlap: 'allow' });
    await setBack(0);
    const schedule = (await due.find(10))[0] ?? expect.fail('nothing is due');
    const tickAt = schedule.nextTickAt ?? expect.fail('nothing is due');
    const plan = {
      ticks: [{ tickAt, outcome: 'ran' as const, count: 1, until: null }],
      ...{ nextTickAt: new Date(tickAt.getTime() + 3_600_000), waitingTickAt: null },
    };
    const changed = await quiet().change('default', id, { expression: '@daily' });
    expect(await due.take([{ schedule, plan }])).toBe(0);
    expect(await queued()).toEqual([]);
    expect((await quiet().get('default', id)).nextTickAt).toEqual(changed.nextTickAt);
  });

  it('a schedule that is paused or whose function is gone ticks no more', async () => {
    const id = await create({ expression: '* * * * * *' });
    const ticker = start();
    const schedules = schedulesWith(ticker);
    await schedules.pause('default', id);
    await setBack(0);
    await end();
    await run((sql) => sql`update schedules set next_tick_at = null`);
    ticker.wake();
    await schedules.resume('default', id);
    await expect.poll(queued, { timeout: 10_000 }).toHaveLength(1);
    await run((sql) => sql`delete from functions where id = ${functionId}`);
    expect(await run((sql) => sql`select id from schedules`)).toEqual([]);
    const before = await queued();
    ticker.wake();
    await settled();
    expect(await queued()).toEqual(before);
  });

  it('goes on when the database was away', async () => {
    const schedules = schedulesWith(start());
    await schedules.create('default', { function: 'report', expression: '* * * * * *', overlap: 'allow' });
    await expect.poll(async () => (await queued()).length, { timeout: 20_000 }).toBeGreaterThan(1);
    await postgres.restart();
    const before = await run((sql) => sql<{ n: number }[]>`select count(*) as n from async_invocations`).catch(
      () => [],
    );
    const least = (before[0]?.n ?? 2) + 2;
    await expect.poll(async () => (await queued()).length, { timeout: 30_000 }).toBeGreaterThan(least);
    const invocations = await queued();
    const from = invocations[0]?.context.tickAt ?? Number.NaN;
    expect(invocations.map(({ context }) => context.tickAt)).toEqual(invocations.map((_, at) => from + at * 1_000));
  });

  it('history is kept for some days and some rows, and removed when its schedule is gone', async () => {
    const ids = [
      await create({ name: 's', expression: '@yearly' }),
      await create({ name: 't', expression: '@yearly' }),
    ];
    for (const id of [...ids, uuidv7()]) {
      await run(
        (sql) => sql`
          insert into schedule_ticks (schedule_id, project_id, trigger, tick_at, outcome, recorded_at)
          select ${id}, 'default', 'schedule', now(), 'ran', now() - (case when n <= 10 then 31 else 0 end) * interval '1 day'
          from generate_series(1, 1210) n`,
      );
    }
    const sweep = new TickSweep(postgres.database, { days: 30, perScheduleMax: 100 }, log);
    expect(await sweep.run()).toBe(30 + 2 * 1_100 + 1_200);
    expect(await sweep.run()).toBe(0);
    sweep.close();
    expect(await quiet().ticks('default', 's', undefined, 1_000)).toHaveLength(100);
    expect(await run((sql) => sql`select count(*) as n from schedule_ticks`)).toEqual([{ n: 200 }]);
  });
});
