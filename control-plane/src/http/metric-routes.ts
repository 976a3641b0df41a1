import { z } from 'zod';
import { type FunctionTable, functionNotFound } from '../functions/function-table.js';
import { parseInput } from '../functions/parse-input.js';
import type { MetricTable } from '../metrics/metric-table.js';
import { LAST_DAY, WINDOW_NAMES, WINDOWS } from '../metrics/metric-window.js';
import type { ProjectOverview } from '../metrics/project-overview.js';
import { showSeries } from '../metrics/shown-figures.js';
import type { ApiRoute } from './api-route.js';
import type { NodeView } from './fleet-routes.js';
import { param } from './function-routes.js';

export interface MetricRoutesOptions {
  readonly functions: FunctionTable;
  readonly metrics: MetricTable;
  readonly overview: ProjectOverview;
  readonly listNodes: (projectId: string) => Promise<readonly NodeView[]>;
}

const query = z.strictObject(
  { window: z.enum(WINDOW_NAMES, `must be one of ${WINDOW_NAMES.join(', ')}`).default('1h') },
  'must be a query',
);
const noQuery = z.strictObject({}, 'must be a query');

const TOP_FUNCTIONS = 5;
const NEWEST_FAILURES = 10;

/** What a function did, and what a project's functions did together. */
export function metricRoutes({ functions, metrics, overview, listNodes }: MetricRoutesOptions): readonly ApiRoute[] {
  return [
    {
      method: 'GET',
      path: '/api/functions/:name/metrics',
      policy: 'key',
      handle: async (c, { projectId }) => {
        const { window } = parseInput(query, c.req.query());
        const name = param(c, 'name');
        const found = await functions.find(projectId, name);
        if (found === undefined) throw functionNotFound(name);
        const series = await metrics.series(projectId, found.id, WINDOWS[window]);
        return c.json({ function: name, window, ...showSeries(series, WINDOWS[window].stepSeconds) });
      },
    },
    {
      method: 'GET',
      path: '/api/dashboard',
      policy: 'key',
      handle: async (c, { projectId }) => {
        parseInput(noQuery, c.req.query());
        const [series, top, failures, counts, nodes] = await Promise.all([
          metrics.series(projectId, undefined, LAST_DAY),
          overview.topFunctions(projectId, LAST_DAY.points, TOP_FUNCTIONS),
          overview.newestFailures(projectId, NEWEST_FAILURES),
          overview.counts(projectId),
          listNodes(projectId),
        ]);
        return c.json({
          window: '24h',
          ...showSeries(series, LAST_DAY.stepSeconds),
          topByInvocations: top.byInvocations,
          topByErrors: top.byErrors,
          failures,
          nodes: nodes.map(({ id, connected, eligible, capacity, sandboxes, lastSeenAt }) => ({
            ...{ id, connected, eligible, capacity, sandboxes, lastSeenAt },
          })),
          ...counts,
        });
      },
    },
  ];
}
