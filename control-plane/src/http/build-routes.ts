import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import { FleetError } from '@lambda-fleet/common/errors';
import { z } from 'zod';
import type { BuildFeed } from '../builds/build-feed.js';
import type { BuildRunner } from '../builds/build-runner.js';
import type { BuildTable } from '../builds/build-table.js';
import { followBuild } from '../builds/follow-build.js';
import { inlineCode } from '../functions/code.js';
import { definitionFields, functionName } from '../functions/definition.js';
import { parseInput } from '../functions/parse-input.js';
import type { ApiContext, ApiRoute } from './api-route.js';
import type { BodyBudget } from './body-budget.js';
import { codeOf, noCode, param, sameName } from './function-routes.js';
import { decodeCursor, encodeCursor, readLimit } from './read-input.js';
import { readUpload } from './read-upload.js';

export interface BuildRoutesOptions {
  readonly runner: BuildRunner;
  readonly table: BuildTable;
  readonly feed: BuildFeed;
  readonly budget: BodyBudget;
  /** Ends all followers when the server stops. */
  readonly stopping: AbortSignal;
}

const request = z.strictObject(
  { ...definitionFields, name: functionName.optional(), code: inlineCode.optional() },
  'must be an object',
);

/** Builds of container images, each of which ends in a version of its function. */
export function buildRoutes({ runner, table, feed, budget, stopping }: BuildRoutesOptions): readonly ApiRoute[] {
  return [
    {
      method: 'POST',
      path: '/api/functions/:name/builds',
      policy: 'key',
      handle: async (c, { projectId }) => {
        const { name } = parseInput(z.object({ name: functionName }), { name: param(c, 'name') });
        const upload = await readUpload(c, budget);
        try {
          const { name: named, code, ...changes } = parseInput(request, upload.definition);
          sameName(named, name);
          const context = codeOf(upload.archive, code) ?? noCode();
          const build = await runner.start(projectId, name, changes, context);
          return c.json(build, 202, { location: `/api/functions/${name}/builds/${build.id}` });
        } finally {
          upload.release();
        }
      },
    },
    {
      method: 'GET',
      path: '/api/functions/:name/builds',
      policy: 'key',
      handle: async (c, { projectId }) => {
        const limit = readLimit(c, 20);
        const found = await table.list(projectId, param(c, 'name'), limit + 1, decodeCursor(c));
        const page = found.slice(0, limit);
        const last = page.at(-1);
        const nextCursor = found.length > limit && last !== undefined ? encodeCursor(last.id) : null;
        return c.json({ builds: page, nextCursor });
      },
    },
    {
      method: 'GET',
      path: '/api/functions/:name/builds/:id',
      policy: 'key',
      handle: async (c, { projectId }) => c.json(await table.get(projectId, param(c, 'name'), param(c, 'id'))),
    },
    {
      method: 'POST',
      path: '/api/functions/:name/builds/:id/cancel',
      policy: 'key',
      handle: async (c, { projectId }) => {
        await runner.cancel(projectId, param(c, 'name'), param(c, 'id'));
        return c.json(await table.get(projectId, param(c, 'name'), param(c, 'id')), 202);
      },
    },
    {
      method: 'GET',
      path: '/api/functions/:name/builds/:id/logs',
      policy: 'key',
      handle: async (c, { projectId }) => {
        const [name, id] = [param(c, 'name'), param(c, 'id')];
        if (c.req.query('follow') === 'true') {
          const after = sequence(c.req.header('last-event-id')) ?? sequence(c.req.query('after')) ?? 0;
          const follow = { table, feed, projectId, functionName: name, buildId: id, after, signal: stopping };
          await followBuild(c.env.outgoing, follow);
          return RESPONSE_ALREADY_SENT;
        }
        return await page(c, projectId, name, id);
      },
    },
  ];

  async function page(c: ApiContext, projectId: string, name: string, id: string): Promise<Response> {
    const after = sequence(c.req.query('after')) ?? 0;
    await table.get(projectId, name, id);
    const lines = await table.linesAfter(projectId, id, after, readLimit(c, 1_000));
    return c.json({ logs: lines, lastSequence: lines.at(-1)?.sequence ?? after });
  }
}

function sequence(text: string | undefined): number | undefined {
  if (text === undefined || text === '') return undefined;
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new FleetError('invalid_request', 'after must be the sequence of a line.', { field: 'after' });
}
