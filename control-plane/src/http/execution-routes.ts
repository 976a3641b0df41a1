import { z } from 'zod';
import type { ExecutionTable } from '../executions/execution-table.js';
import { functionName } from '../functions/definition.js';
import { parseInput } from '../functions/parse-input.js';
import type { OutcomeName, Trigger } from '../invocations/invocation.js';
import { logLineOf } from '../logs/log-line.js';
import type { LogTable } from '../logs/log-table.js';
import { withPlatformLines } from '../logs/platform-lines.js';
import type { ApiRoute } from './api-route.js';
import { param } from './function-routes.js';
import { decodeCursor, encodeCursor, readLimit } from './read-input.js';

const OUTCOMES = [
  'success',
  'function_error',
  'timeout',
  'throttled',
  'not_started',
  'outcome_unknown',
] as const satisfies readonly OutcomeName[];
const TRIGGERS = ['api', 'http', 'route', 'job', 'schedule'] as const satisfies readonly Trigger[];

export interface ExecutionRoutesOptions {
  readonly executions: ExecutionTable;
  readonly logs: LogTable;
}

const filter = z.object({
  function: functionName.optional(),
  outcome: z.enum(OUTCOMES, `must be one of ${OUTCOMES.join(', ')}`).optional(),
  trigger: z.enum(TRIGGERS, `must be one of ${TRIGGERS.join(', ')}`).optional(),
});

export function executionRoutes({ executions, logs }: ExecutionRoutesOptions): readonly ApiRoute[] {
  return [
    {
      method: 'GET',
      path: '/api/executions',
      policy: 'key',
      handle: async (c, { projectId }) => {
        const limit = readLimit(c, 50);
        const { function: functionName, outcome, trigger } = parseInput(filter, c.req.query());
        const found = await executions.list(projectId, {
          functionName,
          outcome,
          trigger,
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
