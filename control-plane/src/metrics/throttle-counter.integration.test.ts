import { pino } from 'pino';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { startTestPostgres, type TestPostgres } from '../db/test-postgres.js';
import type { InvocationResult } from '../invocations/invocation.js';
import type { Trigger } from '../invocations/trigger.js';
import { MetricRoller } from './metric-roller.js';
import { MetricTable } from './metric-table.js';
import { WINDOWS } from './metric-window.js';
import { totalOf } from './shown-figures.js';
import { forgetFigures, recordAgo } from './test-executions.js';
import { ThrottleCounter } from './throttle-counter.js';

const log = pino({ level: 'silent' });

describe('ThrottleCounter', () => {
  let postgres: TestPostgres;
  beforeAll(async () => {
    postgres = await startTestPostgres();
  });
  afterAll(() => postgres.close());
  beforeEach(() => forgetFigures(postgres.database, 600));

  const functionId = uuidv7();
  const result = (outcome: string, id = functionId): InvocationResult =>
    ({
      outcome,
      version: { spec: { projectId: 'default', functionId: id, functionName: 'greet' } },
    }) as unknown as InvocationResult;
  const observe = (counter: ThrottleCounter, times: number, trigger: Trigger = 'api', id = functionId): void => {
    for (let at = 0; at < times; at += 1) counter.observe(result('throttled', id), trigger);
  };
  const totals = async (of: string | undefined, window: keyof typeof WINDOWS = '1h') =>
    totalOf((await new MetricTable(postgres.database).series('default', of, WINDOWS[window])).points);

  it('counts calls that were turned away, of several replicas, and nothing else', async () => {
    const first = new ThrottleCounter(postgres.database, log);
    const counters = [first, new ThrottleCounter(postgres.database, log)];
    const other = uuidv7();
    for (const counter of counters) {
      observe(counter, 5);
      observe(counter, 2, 'http', other);
      observe(counter, 1, 'job');
      counter.observe(result('success'), 'api');
    }
    await Promise.all(counters.map((counter) => counter.flush()));
    observe(first, 1);
    await Promise.all(counters.map((counter) => counter.close()));
    for (const window of ['1h', '7d'] as const) {
      expect(await totals(functionId, window)).toMatchObject({ throttles: 11, invocations: 0 });
      expect(await totals(undefined, window)).toMatchObject({ throttles: 15, invocations: 0 });
    }
  });

  it('they and executions of the same minute keep each other', async () => {
    const counter = new ThrottleCounter(postgres.database, log);
    const roller = new MetricRoller(postgres.database, log);
    observe(counter, 3);
    await counter.flush();
    await recordAgo(postgres.database, 11, [{ functionId, receipt: { runMs: 4 } }]);
    await postgres.database.run(
      'make it the same minute',
      (sql) => sql`update function_minutes set minute = date_trunc('minute', now() - interval '11 seconds')`,
    );
    await roller.run();
    observe(counter, 4);
    await counter.close();
    await roller.close();
    expect(await totals(functionId)).toMatchObject({ throttles: 7, invocations: 1, durationMs: 4 });
  });

  it('keeps what could not be written until it can', { timeout: 60_000 }, async () => {
    const counter = new ThrottleCounter(postgres.database, log);
    observe(counter, 3);
    await postgres.restart(() => counter.flush());
    observe(counter, 1);
    await expect
      .poll(async () => {
        await counter.flush();
        return (await totals(functionId).catch(() => undefined))?.throttles;
      })
      .toBe(4);
    await counter.close();
  });
});
