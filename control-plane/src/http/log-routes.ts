import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import { FleetError } from '@lambda-fleet/common/errors';
import { z } from 'zod';
import { type FunctionTable, functionNotFound } from '../functions/function-table.js';
import { parseInput } from '../functions/parse-input.js';
import { followLogs } from '../logs/follow-logs.js';
import type { LogFeed } from '../logs/log-feed.js';
import type { LogFilter } from '../logs/log-filter.js';
import { logLineOf } from '../logs/log-line.js';
import type { LogTable } from '../logs/log-table.js';
import type { ApiContext, ApiRoute } from './api-route.js';
import { param } from './function-routes.js';
import { readLimit, readTime } from './read-input.js';

const SEARCH_LENGTH_MAX = 200;

export interface LogRoutesOptions {
  readonly functions: FunctionTable;
  readonly logs: LogTable;
  readonly feed: LogFeed;
  /** Ends all followers when the server stops. */
  readonly stopping: AbortSignal;
}

const filter = z.object({
  search: z
    .string()
    .max(SEARCH_LENGTH_MAX, `must have at most ${SEARCH_LENGTH_MAX} characters`)
    // No stored line holds one, and PostgreSQL would refuse the question.
    .refine((text) => !text.includes('\0'), 'must not hold NUL')
    .optional(),
  requestId: z.uuid('must be the id of a request, as in x-request-id').optional(),
});

export function logRoutes({ functions, logs, feed, stopping }: LogRoutesOptions): readonly ApiRoute[] {
  return [
    {
      method: 'GET',
      path: '/api/functions/:name/logs',
      policy: 'key',
      handle: async (c, { projectId }) => {
        const limit = readLimit(c, 100);
        const after = lineId(c.req.query('after'), 'after');
        const name = param(c, 'name');
        const functionId = (await functions.find(projectId, name))?.id;
        if (functionId === undefined) throw functionNotFound(name);
        const wanted = logFilter(c);
        if (c.req.query('follow') === 'true') {
          const resumeAfter = lineId(c.req.header('last-event-id'), 'last-event-id') ?? after;
          await followLogs(c.env.outgoing, {
            table: logs,
            feed,
            projectId,
            functionId,
            after: resumeAfter,
            filter: wanted,
            signal: stopping,
          });
          return RESPONSE_ALREADY_SENT;
        }
        // Asked first: whoever follows from here, with nothing found, misses no line and gets no older one.
        const start = after ?? (await logs.lastId(projectId, functionId));
        const lines =
          after === undefined
            ? await logs.newest(projectId, functionId, limit, readTime(c, 'since'), wanted)
            : await logs.after(projectId, functionId, after, limit, wanted);
        return c.json({ logs: lines.map(logLineOf), lastId: lines.at(-1)?.id ?? start });
      },
    },
  ];
}

function logFilter(c: ApiContext): LogFilter {
  const { search, requestId } = parseInput(filter, c.req.query());
  return { search: search === '' ? undefined : search, executionId: requestId?.toLowerCase() };
}

function lineId(text: string | undefined, field: string): number | undefined {
  if (text === undefined || text === '') return undefined;
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw new FleetError('invalid_request', `${field} must be the id of a log line.`, { field });
}
