import type { ExecutionTable } from '../executions/execution-table.js';
import { logLineOf } from '../logs/log-line.js';
import type { LogTable } from '../logs/log-table.js';
import { withPlatformLines } from '../logs/platform-lines.js';
import type { ApiRoute } from './api-route.js';
import { param } from './function-routes.js';
import { decodeCursor, encodeCursor, readLimit } from './read-input.js';

export interface ExecutionRoutesOptions {
  readonly executions: ExecutionTable;
  readonly logs: LogTable;
}

export function executionRoutes({ executions, logs }: ExecutionRoutesOptions): readonly ApiRoute[] {
  return [
    {
      method: 'GET',
      path: '/api/executions',
      policy: 'key',
      handle: async (c, { projectId }) => {
        const limit = readLimit(c, 50);
        const found = await executions.list(projectId, {
          functionName: c.req.query('function'),
          outcome: c.req.query('outcome'),
          trigger: c.req.query('trigger'),
          beforeId: decodeCursor(c),
          limit: limit + 1,
        });
        const page = found.slice(0, limit);
        const last = page.at(-1);
        const nextCursor = found.length > limit && last !== undefined ? encodeCursor(last.id) : null;
        return c.json({ executions: page, nextCursor });
      },
    },
    {
      method: 'GET',
      path: '/api/executions/:id',
      policy: 'key',
      handle: async (c, { projectId }) => c.json(await executions.get(projectId, param(c, 'id'))),
    },
    {
      method: 'GET',
      path: '/api/executions/:id/logs',
      policy: 'key',
      handle: async (c, { projectId }) => {
        const execution = await executions.get(projectId, param(c, 'id'));
        const lines = await logs.ofExecution(projectId, execution.id);
        return c.json({ logs: withPlatformLines(execution, lines.map(logLineOf)) });
      },
    },
  ];
}
