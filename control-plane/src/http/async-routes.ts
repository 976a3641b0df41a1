import { isUtf8 } from 'node:buffer';
import { FleetError } from '@lambda-fleet/common/errors';
import { z } from 'zod';
import type { AsyncInvocations } from '../async/async-invocations.js';
import type { AsyncSettingsTable } from '../async/async-settings.js';
import type { DeadLetterDetail, DeadLetterFilter, DeadLetters } from '../async/dead-letters.js';
import type { Replays } from '../async/replays.js';
import { deadLetters as deadLetterTable } from '../db/async-tables.js';
import { checkCursor } from '../executions/execution-table.js';
import { functionName } from '../functions/definition.js';
import { parseInput } from '../functions/parse-input.js';
import type { ApiRoute } from './api-route.js';
import type { BodyBudget } from './body-budget.js';
import { param } from './function-routes.js';
import { decodeCursor, encodeCursor, readJson, readLimit } from './read-input.js';

export interface AsyncRoutesOptions {
  readonly asyncInvocations: AsyncInvocations;
  readonly deadLetters: DeadLetters;
  readonly settings: AsyncSettingsTable;
  readonly replays: Replays;
  readonly budget: BodyBudget;
}

const CONDITIONS = deadLetterTable.condition.enumValues;

const condition = z.enum(CONDITIONS, `must be one of ${CONDITIONS.join(', ')}`).optional();
const listFilter = z.object({ function: functionName.optional(), condition });

/** Every dead letter of the project only when that is said: an empty object is more often a mistake. */
const selection = z.strictObject(
  { function: functionName.optional(), condition, all: z.literal(true, 'must be true').optional() },
  'must be an object',
);

const replay = z.strictObject(
  {
    version: z
      .int('must be the number of a version')
      .min(1, 'must be the number of a version')
      .max(2_147_483_647, 'must be the number of a version')
      .optional(),
  },
  'must be an object',
);

const SETTINGS_BYTES_MAX = 16 * 1024;

export function asyncRoutes({
  asyncInvocations,
  deadLetters,
  settings,
  replays,
  budget,
}: AsyncRoutesOptions): readonly ApiRoute[] {
  const selected = async (body: Promise<unknown>): Promise<DeadLetterFilter> => {
    const { function: functionName, condition, all } = parseInput(selection, await body);
    if (functionName !== undefined || condition !== undefined || all) return { functionName, condition };
    throw new FleetError('invalid_request', 'Say which: "function", "condition", or "all": true.');
  };
  return [
    {
      method: 'GET',
      path: '/api/functions/:name/async',
      policy: 'key',
      handle: async (c, { projectId }) => c.json(await settings.get(projectId, param(c, 'name'))),
    },
    {
      method: 'PATCH',
      path: '/api/functions/:name/async',
      policy: 'key',
      handle: async (c, { projectId }) =>
        c.json(await settings.change(projectId, param(c, 'name'), await readJson(c, budget, SETTINGS_BYTES_MAX))),
    },
    {
      method: 'POST',
      path: '/api/executions/:id/cancel',
      policy: 'key',
      handle: async (c, { projectId }) => {
        const cancelled = await asyncInvocations.cancel(projectId, param(c, 'id'));
        return c.json({ id: param(c, 'id'), cancelled }, cancelled === 'requested' ? 202 : 200);
      },
    },
    {
      method: 'POST',
      path: '/api/executions/:id/replay',
      policy: 'key',
      handle: async (c, { projectId }) => {
        const { version } = parseInput(replay, await readJson(c, budget, SETTINGS_BYTES_MAX, {}));
        const id = await replays.replay(projectId, param(c, 'id'), version);
        return c.json({ id, status: 'queued' }, 202, { location: `/api/executions/${id}` });
      },
    },
    {
      method: 'GET',
      path: '/api/queue',
      policy: 'key',
      handle: async (c, { projectId }) => c.json(await asyncInvocations.overview(projectId)),
    },
    {
      method: 'GET',
      path: '/api/dead-letters',
      policy: 'key',
      handle: async (c, { projectId }) => {
        const limit = readLimit(c, 50);
        const { function: functionName, condition } = parseInput(listFilter, c.req.query());
        const beforeId = decodeCursor(c);
        checkCursor(beforeId);
        const found = await deadLetters.list(projectId, { functionName, condition }, beforeId, limit + 1);
        const page = found.slice(0, limit);
        const last = page.at(-1);
        const nextCursor = found.length > limit && last !== undefined ? encodeCursor(last.id) : null;
        return c.json({ deadLetters: page, nextCursor });
      },
    },
    {
      method: 'GET',
      path: '/api/dead-letters/:id',
      policy: 'key',
      handle: async (c, { projectId }) => c.json(shown(await deadLetters.get(projectId, param(c, 'id')))),
    },
    {
      method: 'POST',
      path: '/api/dead-letters/redrive',
      policy: 'key',
      handle: async (c, { projectId }) => {
        const redriven = await deadLetters.redrive(projectId, await selected(readJson(c, budget, SETTINGS_BYTES_MAX)));
        return c.json({ redriven: redriven.size }, 202);
      },
    },
    {
      method: 'POST',
      path: '/api/dead-letters/purge',
      policy: 'key',
      handle: async (c, { projectId }) => {
        const filter = await selected(readJson(c, budget, SETTINGS_BYTES_MAX));
        return c.json({ purged: await deadLetters.purge(projectId, filter) });
      },
    },
    {
      method: 'POST',
      path: '/api/dead-letters/:id/redrive',
      policy: 'key',
      handle: async (c, { projectId }) => {
        const { id } = await deadLetters.get(projectId, param(c, 'id'));
        const newId = (await deadLetters.redrive(projectId, { id })).get(id);
        if (newId === undefined) throw new FleetError('conflict', 'Somebody else is sending it again at this moment.');
        return c.json({ id: newId, status: 'queued' }, 202, { location: `/api/executions/${newId}` });
      },
    },
    {
      method: 'DELETE',
      path: '/api/dead-letters/:id',
      policy: 'key',
      handle: async (c, { projectId }) => {
        const { id } = await deadLetters.get(projectId, param(c, 'id'));
        await deadLetters.purge(projectId, { id });
        return c.body(null, 204);
      },
    },
  ];
}

function shown({ payload, ...letter }: DeadLetterDetail) {
  const text = isUtf8(payload);
  return { ...letter, payload: payload.toString(text ? 'utf8' : 'base64'), isBase64Encoded: !text };
}
