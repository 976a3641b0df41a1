import { pino } from 'pino';
import { v7 as uuidv7 } from 'uuid';
import { expect, it } from 'vitest';
import { startTestPostgres } from '../db/test-postgres.js';
import { MetricRoller } from './metric-roller.js';
import { MetricSweep } from './metric-sweep.js';
import { forgetFigures, recordAgo } from './test-executions.js';

const log = pino({ level: 'silent' });
const DAY_S = 24 * 3_600;

it('minutes and hours are removed when they are too old, by any number of replicas', async () => {
  const postgres = await startTestPostgres();
  const { database } = postgres;
  try {
    await forgetFigures(database, 100 * DAY_S);
    const functions = Array.from({ length: 700 }, () => ({ functionId: uuidv7() }));
    for (const days of [95, 8, 6]) await recordAgo(database, days * DAY_S, functions);
    const roller = new MetricRoller(database, log);
    await roller.run();
    await roller.close();
    const sweeps = [1, 2].map(() => new MetricSweep(database, { minuteDays: 7, hourDays: 90 }, log));
    const removed = await Promise.all(sweeps.map((sweep) => sweep.run()));
    for (const sweep of sweeps) sweep.close();
    // One row more of each minute and hour is the project's.
    expect(removed.reduce((sum, rows) => sum + rows)).toBe(3 * 701);
    const [left] = await database.run(
      'left',
      (sql) => sql<{ minutes: number; hours: number }[]>`
        select (select count(*) from function_minutes)::integer as minutes,
          (select count(*) from function_hours)::integer as hours`,
    );
    expect(left).toEqual({ minutes: 701, hours: 1_402 });
  } finally {
    await postgres.close();
  }
});
