import { z } from 'zod';
import { functionName } from '../functions/definition.js';
import { parseInput } from '../functions/parse-input.js';
import { SCHEDULE_BODY_BYTES_MAX } from '../schedules/schedule-input.js';
import type { ScheduleDetail, Schedules } from '../schedules/schedules.js';
import type { ApiContext, ApiRoute } from './api-route.js';
import type { BodyBudget } from './body-budget.js';
import { param } from './function-routes.js';
import { decodeCursor, encodeCursor, readJson, readLimit } from './read-input.js';

export interface ScheduleRoutesOptions {
  readonly schedules: Schedules;
  readonly budget: BodyBudget;
}

const PATH = '/api/schedules/:schedule';

const filter = z.object({ function: functionName.optional() });

export function scheduleRoutes({ schedules, budget }: ScheduleRoutesOptions): readonly ApiRoute[] {
  const named = (c: ApiContext): string => param(c, 'schedule');

  return [
    {
      method: 'GET',
      path: '/api/schedules',
      policy: 'key',
      handle: async (c, { projectId }) => {
        const limit = readLimit(c, 100);
        const { function: ofFunction } = parseInput(filter, c.req.query());
        const afterName = decodeCursor(c) ?? '';
        const found = await schedules.list(projectId, { functionName: ofFunction, afterName, limit: limit + 1 });
        const page = found.slice(0, limit);
        const last = page.at(-1);
        const nextCursor = found.length > limit && last !== undefined ? encodeCursor(last.name) : null;
        return c.json({ schedules: page, nextCursor });
      },
    },
    {
      method: 'POST',
      path: '/api/schedules',
      policy: 'key',
      handle: async (c, { projectId }) => {
        const created = await schedules.create(projectId, await readJson(c, budget, SCHEDULE_BODY_BYTES_MAX));
        return answer(c, created, 201, { location: `/api/schedules/${created.name}` });
      },
    },
    {
      method: 'GET',
      path: PATH,
      policy: 'key',
      handle: async (c, { projectId }) => answer(c, await schedules.get(projectId, named(c))),
    },
    {
      method: 'PATCH',
      path: PATH,
      policy: 'key',
      handle: async (c, { projectId }) => {
        const body = await readJson(c, budget, SCHEDULE_BODY_BYTES_MAX);
        return answer(c, await schedules.change(projectId, named(c), body));
      },
    },
    {
      method: 'DELETE',
      path: PATH,
      policy: 'key',
      handle: async (c, { projectId }) => {
        await schedules.remove(projectId, named(c));
        return c.body(null, 204);
      },
    },
    {
      method: 'POST',
      path: `${PATH}/pause`,
      policy: 'key',
      handle: async (c, { projectId }) => answer(c, await schedules.pause(projectId, named(c))),
    },
    {
      method: 'POST',
      path: `${PATH}/resume`,
      policy: 'key',
      handle: async (c, { projectId }) => answer(c, await schedules.resume(projectId, named(c))),
    },
    {
      method: 'POST',
      path: `${PATH}/run`,
      policy: 'key',
      handle: async (c, { projectId }) => c.json(await schedules.runNow(projectId, named(c)), 202),
    },
    {
      method: 'GET',
      path: `${PATH}/ticks`,
      policy: 'key',
      handle: async (c, { projectId }) => {
        const limit = readLimit(c, 50);
        const found = await schedules.ticks(projectId, named(c), decodeCursor(c), limit + 1);
        const page = found.slice(0, limit);
        const last = page.at(-1);
        const nextCursor = found.length > limit && last !== undefined ? encodeCursor(String(last.id)) : null;
        return c.json({ ticks: page, nextCursor });
      },
    },
  ];
}

/** `payload` goes in as the JSON text that it is. */
function answer(
  c: ApiContext,
  { payload, ...schedule }: ScheduleDetail,
  status: 200 | 201 = 200,
  headers: Record<string, string> = {},
): Response {
  const text = `${JSON.stringify(schedule).slice(0, -1)},"payload":${payload ?? 'null'}}`;
  return c.body(text, status, { 'content-type': 'application/json', ...headers });
}
