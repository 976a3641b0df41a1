import type { ConcurrencySettingsTable } from '../admission/concurrency-settings.js';
import type { ApiRoute } from './api-route.js';
import type { BodyBudget } from './body-budget.js';
import { param } from './function-routes.js';
import { readJson } from './read-input.js';

export interface ConcurrencyRoutesOptions {
  readonly concurrency: ConcurrencySettingsTable;
  readonly budget: BodyBudget;
}

const PATH = '/api/functions/:name/concurrency';

const SETTINGS_BYTES_MAX = 1_024;

export function concurrencyRoutes({ concurrency, budget }: ConcurrencyRoutesOptions): readonly ApiRoute[] {
  return [
    {
      method: 'GET',
      path: PATH,
      policy: 'key',
      handle: async (c, { projectId }) => c.json(await concurrency.get(projectId, param(c, 'name'))),
    },
    {
      method: 'PUT',
      path: PATH,
      policy: 'key',
      handle: async (c, { projectId }) =>
        c.json(await concurrency.change(projectId, param(c, 'name'), await readJson(c, budget, SETTINGS_BYTES_MAX))),
    },
    {
      method: 'DELETE',
      path: PATH,
      policy: 'key',
      handle: async (c, { projectId }) => c.json(await concurrency.clear(projectId, param(c, 'name'))),
    },
  ];
}
