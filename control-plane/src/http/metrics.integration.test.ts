import { pino } from 'pino';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { MetricRoller } from '../metrics/metric-roller.js';
import type { ShownFigures } from '../metrics/shown-figures.js';
import { forgetFigures, recordAgo } from '../metrics/test-executions.js';
import { startTestControlPlane, type TestControlPlane } from './test-control-plane.js';

interface Answer {
  readonly from: string;
  readonly to: string;
  readonly stepSeconds: number;
  readonly totals: ShownFigures;
  readonly series: readonly (ShownFigures & { readonly at: string })[];
}

const HOUR_S = 3_600;
const DAY_S = 24 * HOUR_S;
const CODE = { source: 'exports.handler = async () => 1;', filename: 'index.cjs' };

describe('metrics over HTTP', () => {
  let plane: TestControlPlane;
  let functionId: string;
  beforeAll(async () => {
    plane = await startTestControlPlane();
    const { status, body } = await plane.call('POST', '/api/functions', { name: 'greet', code: CODE });
    expect(status).toBe(201);
    functionId = String(body.id);
  });
  afterAll(() => plane.close());
  beforeEach(() => forgetFigures(plane.postgres.database, 40 * DAY_S));

  const record = (secondsAgo: number, runsMs: readonly number[], outcome = 'success'): Promise<void> =>
    recordAgo(
      plane.postgres.database,
      secondsAgo,
      runsMs.map((runMs) => ({ functionId, outcome, receipt: { start: 'warm', runMs, cpuMs: runMs / 2 } })),
    );
  const roll = async (): Promise<void> => {
    const roller = new MetricRoller(plane.postgres.database, pino({ level: 'silent' }));
    await roller.run();
    await roller.close();
  };
  const metrics = async (window: string): Promise<Answer> => {
    const { status, body } = await plane.call('GET', `/api/functions/greet/metrics?window=${window}`);
    expect(status).toBe(200);
    return body as unknown as Answer;
  };

  it('every window has points of one step up to now, whether anything happened or not', async () => {
    const expected = { '15m': 15, '1h': 60, '6h': 72, '24h': 96, '7d': 168, '30d': 120 };
    for (const [window, points] of Object.entries(expected)) {
      const { from, to, stepSeconds, series, totals } = await metrics(window);
      expect(series).toHaveLength(points);
      const times = series.map(({ at }) => Date.parse(at));
      expect(times[0]).toBe(Date.parse(from));
      for (const [at, time] of times.entries()) expect(time).toBe(Date.parse(from) + at * stepSeconds * 1_000);
      expect(Date.parse(to) - (times.at(-1) ?? 0)).toBeLessThan(stepSeconds * 1_000);
      expect(totals).toMatchObject({ invocations: 0, errorShare: null, coldShare: null, duration: null, cpu: null });
    }
  });

  it('counts what was added and what was not, each once, in every window that reaches so far', async () => {
    await record(20 * DAY_S, [1]);
    await record(3 * DAY_S, [1, 1]);
    await record(5 * HOUR_S, [1, 1, 1]);
    await record(2 * HOUR_S, [1], 'timeout');
    await record(600, [10, 20, 1_000]);
    await roll();
    await record(3, [30]);
    const counts: Record<string, [number, number]> = {};
    for (const window of ['15m', '1h', '6h', '24h', '7d', '30d']) {
      const { totals, series } = await metrics(window);
      counts[window] = [totals.invocations, totals.errors];
      expect(series.reduce((sum, point) => sum + point.invocations, 0)).toBe(totals.invocations);
    }
    expect(counts).toEqual({ '15m': [4, 0], '1h': [4, 0], '6h': [8, 1], '24h': [8, 1], '7d': [10, 1], '30d': [11, 1] });
    const { totals } = await metrics('1h');
    expect(totals.duration?.averageMs).toBe(265);
    for (const [found, exact] of [
      [totals.duration?.p50Ms, 20],
      [totals.duration?.p99Ms, 1_000],
      [totals.cpu?.p50Ms, 10],
      [totals.cpu?.p95Ms, 500],
    ] as const) {
      expect(Math.abs((found ?? 0) / exact - 1)).toBeLessThan(0.02);
    }
    expect(totals).toMatchObject({ starts: { cold: 0, blank: 0, warm: 4 }, coldShare: 0, memoryPeakBytes: null });
  });

  it('the same figures whether they were added or not', async () => {
    await record(50, [3, 5, 8]);
    await record(40, [13], 'function_error');
    const before = await metrics('15m');
    await roll();
    const after = await metrics('15m');
    expect(after.totals).toEqual(before.totals);
    expect(after.totals).toMatchObject({ invocations: 4, errors: 1, errorShare: 0.25, functionErrors: 1 });
  });

  it('refuses windows and fields that it does not know, naming them', async () => {
    for (const [query, field] of [
      ['window=2h', 'window'],
      ['window=', 'window'],
      ['windw=1h', 'windw'],
    ]) {
      const { status, body } = await plane.call('GET', `/api/functions/greet/metrics?${query}`);
      expect(status).toBe(400);
      expect(body.error).toMatchObject({ code: 'invalid_request', details: { field } });
    }
    expect((await plane.call('GET', '/api/dashboard?window=1h')).status).toBe(400);
  });

  it('another project sees neither the function nor its figures', async () => {
    const { database } = plane.postgres;
    const projectId = `other-${uuidv7()}`;
    await database.run('add project', (sql) => sql`insert into projects (project_id) values (${projectId})`);
    await recordAgo(database, 60, [{ functionId: uuidv7(), functionName: 'secret', projectId, outcome: 'timeout' }]);
    await recordAgo(database, 3, [{ functionId: uuidv7(), functionName: 'secret', projectId, outcome: 'timeout' }]);
    await roll();
    const { status, body } = await plane.call('GET', '/api/functions/secret/metrics');
    expect(status).toBe(404);
    expect(body.error).toMatchObject({ code: 'function_not_found' });
    const dashboard = (await plane.call('GET', '/api/dashboard')).body as unknown as Answer & { failures: unknown[] };
    expect(dashboard.totals).toMatchObject({ invocations: 0, errors: 0 });
    expect(dashboard.failures).toEqual([]);
  });

  it('a function that was deleted and made again starts with nothing, and its project keeps what was', async () => {
    await plane.call('POST', '/api/functions', { name: 'again', code: CODE });
    const { body } = await plane.call('GET', '/api/functions/again');
    await recordAgo(plane.postgres.database, 60, [{ functionId: String(body.id), functionName: 'again' }]);
    await roll();
    await plane.call('DELETE', '/api/functions/again');
    expect((await plane.call('GET', '/api/functions/again/metrics')).status).toBe(404);
    await plane.call('POST', '/api/functions', { name: 'again', code: CODE });
    const now = (await plane.call('GET', '/api/functions/again/metrics')).body as unknown as Answer;
    expect(now.totals.invocations).toBe(0);
    const dashboard = (await plane.call('GET', '/api/dashboard')).body;
    expect(dashboard).toMatchObject({ totals: { invocations: 1 }, topByInvocations: [], functions: 2 });
    await plane.call('DELETE', '/api/functions/again');
  });

  it('the dashboard shows totals, series, functions, failures, nodes and what waits', async () => {
    const { database } = plane.postgres;
    await database.run(
      'a node, a lane and a dead letter',
      (sql) => sql`
        with node as (
          insert into nodes (id, project_id, labels, isolation, runtimes, architecture, agent_version)
          values ('node-1', 'default', '{}', '[]', '[]', 'amd64', '1')
        ), lane as (
          insert into lanes (id, project_id, queued, queued_bytes, virtual_time) values
            (${uuidv7()}, 'default', 3, 0, 0), (${uuidv7()}, 'default', 4, 0, 0)
        )
        insert into dead_letters (
          id, project_id, lane_id, kind, function_id, function_name, trigger, payload, context, condition, epoch, attempts,
          losses, outcome, accepted_at
        ) values (
          ${uuidv7()}, 'default', ${functionId}, 'function', ${functionId}, 'greet', 'async', '', '{}', 'RetriesExhausted', 1, 3,
          0, 'function_error', now()
        )`,
    );
    await record(2 * HOUR_S, [10, 20, 30]);
    await roll();
    await record(3, [40], 'function_error');
    const { status, body } = await plane.call('GET', '/api/dashboard');
    expect(status).toBe(200);
    const greet = { name: 'greet', invocations: 4, errors: 1, throttles: 0 };
    expect(body).toMatchObject({
      ...{ window: '24h', stepSeconds: 3_600, functions: 1, queueDepth: 7, deadLetters: 1 },
      totals: { invocations: 4, errors: 1, errorShare: 0.25, throttles: 0 },
      topByInvocations: [greet],
      topByErrors: [greet],
      failures: [{ functionName: 'greet', outcome: 'function_error', trigger: 'api', error: null }],
      nodes: [{ id: 'node-1', connected: false, capacity: null }],
    });
    expect((body as unknown as Answer).series).toHaveLength(24);
  });
});
