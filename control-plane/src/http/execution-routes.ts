import { z } from 'zod';
import type { AsyncInvocations } from '../async/async-invocations.js';
import { OUTCOMES, STATUSES } from '../executions/execution-status.js';
import type { ExecutionTable } from '../executions/execution-table.js';
import { functionName } from '../functions/definition.js';
import { parseInput } from '../functions/parse-input.js';
import { RECORDED_TRIGGERS } from '../invocations/trigger.js';
import { logLineOf } from '../logs/log-line.js';
import type { LogTable } from '../logs/log-table.js';
import { withPlatformLines } from '../logs/platform-lines.js';
import type { ApiRoute } from './api-route.js';
import { param } from './function-routes.js';
import { listWithOpen, OPEN_STATUSES } from './list-executions.js';
import { decodeCursor, encodeCursor, readLimit, readTime } from './read-input.js';

export interface ExecutionRoutesOptions {
  readonly asyncInvocations: AsyncInvocations;
  readonly executions: ExecutionTable;
  readonly logs: LogTable;
}

const ALL_STATUSES = [...OPEN_STATUSES, ...STATUSES];

const filter = z.object({
  function: functionName.optional(),
  outcome: z.enum(OUTCOMES, `must be one of ${OUTCOMES.join(', ')}`).optional(),
  status: z.enum(ALL_STATUSES, `must be one of ${ALL_STATUSES.join(', ')}`).optional(),
  trigger: z.enum(RECORDED_TRIGGERS, `must be one of ${RECORDED_TRIGGERS.join(', ')}`).optional(),
});

export function executionRoutes({ executions, asyncInvocations, logs }: ExecutionRoutesOptions): readonly ApiRoute[] {
  return [
    {
      method: 'GET',
      path: '/api/executions',
      policy: 'key',
      handle: async (c, { projectId }) => {
        const limit = readLimit(c, 50);
        const { function: functionName, outcome, status, trigger } = parseInput(filter, c.req.query());
        const isOpen = status === 'queued' || status === 'running';
        const asked = {
          ...{ functionName, outcome, status: isOpen ? undefined : status, trigger, beforeId: decodeCursor(c), limit },
          ...{ since: readTime(c, 'since'), until: readTime(c, 'until') },
        };
        const page = await listWithOpen(projectId, asked, isOpen ? status : undefined, {
          executions,
          asyncInvocations,
        });
        const nextCursor = page.nextBeforeId === undefined ? null : encodeCursor(page.nextBeforeId);
        return c.json({ executions: page.executions, nextCursor });
      },
    },
    {
      method: 'GET',
      path: '/api/executions/:id',
      policy: 'key',
      handle: async (c, { projectId }) => {
        const id = param(c, 'id');
        const ended = await executions.find(projectId, id);
        // One that ends between the two questions is found by asking again.
        const found = ended ?? (await asyncInvocations.find(projectId, id)) ?? (await executions.get(projectId, id));
        return c.json(found);
      },
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
