import { pino } from 'pino';
import { Registry } from 'prom-client';
import { describe, expect, it } from 'vitest';
import type { ApiKeys } from '../auth/api-keys.js';
import { type ApiRoute, DIRECT_ROUTES } from './api-route.js';
import { asyncRoutes } from './async-routes.js';
import { buildRoutes } from './build-routes.js';
import { createApi } from './create-api.js';
import { executionRoutes } from './execution-routes.js';
import { fleetRoutes } from './fleet-routes.js';
import { functionRoutes } from './function-routes.js';
import { jobRoutes } from './job-routes.js';
import { joinRoutes } from './join-routes.js';
import { logRoutes } from './log-routes.js';
import { metricRoutes } from './metric-routes.js';
import { nodeRoutes } from './node-routes.js';
import { scheduleRoutes } from './schedule-routes.js';

/** Nothing of these is reached: every request is turned away before. */
const unused = {} as never;

describe('route policies', () => {
  const routes: readonly ApiRoute[] = [
    ...fleetRoutes({ listNodes: unused, readiness: unused, registry: new Registry() }),
    ...joinRoutes({ tokens: unused, ports: unused, removeNode: unused, budget: unused }),
    ...nodeRoutes({ getNode: unused, events: unused, drains: unused, budget: unused }),
    ...functionRoutes({ functions: unused, deployer: unused, testRuns: unused, budget: unused, functionUrl: unused }),
    ...buildRoutes({ runner: unused, table: unused, feed: unused, budget: unused, stopping: unused }),
    ...logRoutes({ functions: unused, logs: unused, feed: unused, stopping: unused }),
    ...executionRoutes({ executions: unused, asyncInvocations: unused, logs: unused }),
    ...asyncRoutes({
      asyncInvocations: unused,
      deadLetters: unused,
      settings: unused,
      replays: unused,
      budget: unused,
    }),
    ...metricRoutes({ functions: unused, metrics: unused, overview: unused, listNodes: unused }),
    ...jobRoutes({ jobs: unused, executions: unused, logs: unused, budget: unused }),
    ...scheduleRoutes({ schedules: unused, budget: unused }),
  ];
  const keys = { verify: () => undefined } as unknown as ApiKeys;
  const api = createApi({ routes, keys, log: pino({ level: 'silent' }), observeHttp: () => undefined });

  it('every route of the application is in the table, and so has a policy', () => {
    const declared = new Set([...routes, ...DIRECT_ROUTES].map((route) => route.path));
    for (const { method, path } of api.routes) {
      // `/*` is the middleware that measures.
      if (path !== '/*') expect(declared, `${method} ${path}`).toContain(path);
    }
    for (const route of [...routes, ...DIRECT_ROUTES]) expect(['key', 'open']).toContain(route.policy);
  });

  it('only health and metrics are open', () => {
    const open = routes.filter((route) => route.policy === 'open').map((route) => route.path);
    expect(open.sort()).toEqual(['/healthz', '/metrics', '/readyz']);
  });

  it('no route that needs a key answers without one', async () => {
    for (const { method, path } of routes.filter((route) => route.policy === 'key')) {
      const env = { incoming: { headers: {}, complete: true }, outgoing: { getHeader: () => 'id' } };
      const response = await api.request(path.replaceAll(/:\w+/g, 'x'), { method }, env);
      expect(response.status, `${method} ${path}`).toBe(401);
    }
  });
});
