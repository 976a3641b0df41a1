import { FleetError } from '@lambda-fleet/common/errors';
import { z } from 'zod';
import type { ExecutionTable } from '../executions/execution-table.js';
import { parseInput } from '../functions/parse-input.js';
import { idempotencyKeyOf, REPLAYED_HEADER } from '../idempotency/idempotency-key.js';
import { ARGS_KEPT_BYTES_MAX, JOB_STATUSES, type JobDetail } from '../jobs/job.js';
import { SUBMISSION_BYTES_MAX } from '../jobs/job-submission.js';
import type { Jobs } from '../jobs/jobs.js';
import { type LogLine, logLineOf } from '../logs/log-line.js';
import type { LogTable } from '../logs/log-table.js';
import { withPlatformLines } from '../logs/platform-lines.js';
import { type ApiContext, type ApiRoute, requestIdOf } from './api-route.js';
import type { BodyBudget } from './body-budget.js';
import { param } from './function-routes.js';
import { decodeCursor, encodeCursor, readJson, readLimit } from './read-input.js';

export interface JobRoutesOptions {
  readonly jobs: Jobs;
  readonly executions: ExecutionTable;
  readonly logs: LogTable;
  readonly budget: BodyBudget;
}

const WAIT_MS_MAX = 30_000;

/** Log lines that a job is shown with; all of them are at `/logs`. */
const LINES_SHOWN = 1_000;

const filter = z.object({
  status: z.enum(JOB_STATUSES, `must be one of ${JOB_STATUSES.join(', ')}`).optional(),
});

const waiting = z.object({
  waitMs: z.coerce
    .number('must be a number')
    .int('must be a whole number')
    .min(0, 'must be at least 0')
    .max(WAIT_MS_MAX, `must be at most ${WAIT_MS_MAX}`)
    .default(0),
});

export function jobRoutes({ jobs, executions, logs, budget }: JobRoutesOptions): readonly ApiRoute[] {
  const find = (c: ApiContext, projectId: string, waitMs = 0): Promise<JobDetail> =>
    jobs.get(projectId, param(c, 'id'), waitMs, clientGone(c));

  return [
    {
      method: 'GET',
      path: '/api/jobs',
      policy: 'key',
      handle: async (c, { projectId }) => {
        const limit = readLimit(c, 50);
        const { status } = parseInput(filter, c.req.query());
        const found = await jobs.list(projectId, { status, beforeId: decodeCursor(c), limit: limit + 1 });
        const page = found.slice(0, limit);
        const last = page.at(-1);
        const nextCursor = found.length > limit && last !== undefined ? encodeCursor(last.id) : null;
        return c.json({ jobs: page, nextCursor });
      },
    },
    {
      method: 'POST',
      path: '/api/jobs',
      policy: 'key',
      handle: async (c, { projectId }) => {
        const key = idempotencyKeyOf(c.env.incoming.headers);
        const body = await readJson(c, budget, SUBMISSION_BYTES_MAX);
        const { job, replayed } = await jobs.submit(projectId, body, { id: requestIdOf(c), key });
        return c.json(job, 202, {
          ...{ location: `/api/jobs/${job.id}`, 'x-request-id': job.id },
          ...(replayed ? { [REPLAYED_HEADER]: 'true' } : {}),
        });
      },
    },
    {
      method: 'GET',
      path: '/api/jobs/:id',
      policy: 'key',
      handle: async (c, { projectId }) => {
        const { waitMs } = parseInput(waiting, c.req.query());
        const job = await find(c, projectId, waitMs);
        const executionId = job.executionIds.at(-1);
        const all = executionId === undefined ? [] : await logs.ofExecution(projectId, executionId);
        const lines = job.epoch === null ? all : all.filter(({ epoch }) => epoch === job.epoch);
        return c.body(jobText(job, lines.slice(-LINES_SHOWN).map(logLineOf)), 200, {
          'content-type': 'application/json',
        });
      },
    },
    {
      method: 'GET',
      path: '/api/jobs/:id/result',
      policy: 'key',
      handle: async (c, { projectId }) => {
        const { status, result } = await find(c, projectId);
        if (result !== null) return c.body(result, 200, { 'content-type': 'application/json' });
        const why = status === 'succeeded' ? 'its result was too long to keep, or came too late' : `it is ${status}`;
        throw new FleetError('conflict', `The job has no result: ${why}.`, { status });
      },
    },
    {
      method: 'GET',
      path: '/api/jobs/:id/logs',
      policy: 'key',
      handle: async (c, { projectId }) => {
        const { executionIds } = await find(c, projectId);
        const all: LogLine[] = [];
        for (const id of executionIds) {
          const lines = (await logs.ofExecution(projectId, id)).map(logLineOf);
          const execution = await executions.find(projectId, id);
          all.push(...(execution === undefined ? lines : withPlatformLines(execution, lines)));
        }
        return c.json({ logs: all });
      },
    },
    {
      method: 'POST',
      path: '/api/jobs/:id/cancel',
      policy: 'key',
      handle: async (c, { projectId }) => {
        const job = await jobs.cancel(projectId, param(c, 'id'));
        return c.json(job, job.finishedAt === null ? 202 : 200);
      },
    },
  ];
}

/** `args` and `result` go in as the JSON texts that they are: reading and writing them anew would change numbers. */
function jobText({ args, result, code, epoch: _, ...job }: JobDetail, logs: readonly LogLine[]): string {
  const rest = JSON.stringify({
    ...job,
    resultTruncated: job.status === 'succeeded' && result === null,
    code: Buffer.byteLength(code) > ARGS_KEPT_BYTES_MAX ? null : code,
    logs,
  });
  const shownArgs = job.argsBytes > ARGS_KEPT_BYTES_MAX ? null : args;
  return `${rest.slice(0, -1)},"args":${shownArgs ?? 'null'},"result":${result ?? 'null'}}`;
}

function clientGone(c: ApiContext): AbortSignal {
  const gone = new AbortController();
  c.env.outgoing.once('close', () => gone.abort());
  return gone.signal;
}
