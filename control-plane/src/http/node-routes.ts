import { z } from 'zod';
import { parseInput } from '../functions/parse-input.js';
import type { NodeEvents } from '../nodes/node-events.js';
import { nodeNotFound } from '../nodes/node-store.js';
import type { DrainAsked, NodeDrains } from '../scheduling/node-drains.js';
import type { ApiContext, ApiRoute } from './api-route.js';
import type { BodyBudget } from './body-budget.js';
import type { NodeView } from './fleet-routes.js';
import { param } from './function-routes.js';
import { decodeCursor, encodeCursor, readJson, readLimit } from './read-input.js';

export interface NodeRoutesOptions {
  /** @throws FleetError `node_not_found`, `unavailable` */
  readonly getNode: (projectId: string, nodeId: string) => Promise<NodeView>;
  readonly events: NodeEvents;
  readonly drains: NodeDrains;
  readonly budget: BodyBudget;
}

const PATH = '/api/nodes/:id';

/** What a certificate's common name may be. */
const NODE_ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,252}$/;

/** A month; a drain that may take longer has no deadline. */
const DEADLINE_MS_MAX = 31 * 24 * 3_600_000;

const BODY_BYTES_MAX = 64 * 1024;
const NEWEST_EVENTS = 20;

const nodeId = z.string().regex(NODE_ID, 'must be the id of a node');

const NOT_AN_OBJECT = 'must be an object';
const eligibility = z.strictObject({ eligible: z.boolean('must be true or false') }, NOT_AN_OBJECT);

const drain = z.strictObject(
  {
    deadlineMs: z
      .int('must be a whole number of milliseconds, or null for no deadline')
      .min(0, 'must not be negative')
      .max(DEADLINE_MS_MAX, `must be at most ${DEADLINE_MS_MAX}, or null for no deadline`)
      .nullable(),
    force: z.boolean('must be true or false').default(false),
    message: z
      .string('must be a string')
      .max(1_000, 'must have at most 1,000 characters')
      .refine((text) => !text.includes('\0'), 'must not hold a NUL')
      .nullable()
      .default(null),
    minEligible: z.int('must be a whole number').min(0, 'must not be negative').max(1_000_000).default(0),
    alongside: z.array(nodeId).max(10_000).default([]),
    dryRun: z.boolean('must be true or false').default(false),
  },
  NOT_AN_OBJECT,
);

const undrain = z.strictObject({ keepIneligible: z.boolean('must be true or false').default(false) }, NOT_AN_OBJECT);

/** One node: what it is, what happened to it, and what operators decide about it. */
export function nodeRoutes({ getNode, events, drains, budget }: NodeRoutesOptions): readonly ApiRoute[] {
  const read = async <T>(c: ApiContext, schema: z.ZodType<T>, ifEmpty?: object): Promise<T> =>
    parseInput(schema, await readJson(c, budget, BODY_BYTES_MAX, ifEmpty));

  return [
    {
      method: 'GET',
      path: PATH,
      policy: 'key',
      handle: async (c, { projectId }) => {
        const node = await getNode(projectId, named(c));
        const newest = await events.list(projectId, node.id, { limit: NEWEST_EVENTS });
        return c.json({ ...node, events: newest });
      },
    },
    {
      method: 'GET',
      path: `${PATH}/events`,
      policy: 'key',
      handle: async (c, { projectId }) => {
        const limit = readLimit(c, 50);
        const { id } = await getNode(projectId, named(c));
        const cursor = decodeCursor(c);
        const beforeId = cursor === undefined ? undefined : parseInput(CURSOR, { cursor }).cursor;
        const found = await events.list(projectId, id, { beforeId, limit: limit + 1 });
        const page = found.slice(0, limit);
        const last = page.at(-1);
        const nextCursor = found.length > limit && last !== undefined ? encodeCursor(String(last.id)) : null;
        return c.json({ events: page, nextCursor });
      },
    },
    {
      method: 'PUT',
      path: `${PATH}/eligibility`,
      policy: 'key',
      handle: async (c, { projectId }) => {
        const { eligible } = await read(c, eligibility);
        await drains.setEligible(projectId, named(c), eligible);
        return c.json(await getNode(projectId, named(c)));
      },
    },
    {
      method: 'PUT',
      path: `${PATH}/drain`,
      policy: 'key',
      handle: async (c, { projectId }) => {
        const { dryRun, ...asked }: DrainAsked & { dryRun: boolean } = await read(c, drain);
        if (dryRun) return c.json({ plan: await drains.plan(projectId, named(c), asked) });
        const plan = await drains.start(projectId, named(c), asked);
        return c.json({ plan, node: await getNode(projectId, named(c)) });
      },
    },
    {
      method: 'DELETE',
      path: `${PATH}/drain`,
      policy: 'key',
      handle: async (c, { projectId }) => {
        const { keepIneligible } = await read(c, undrain, {});
        await drains.cancel(projectId, named(c), keepIneligible);
        return c.json(await getNode(projectId, named(c)));
      },
    },
  ];
}

const CURSOR = z.object({ cursor: z.coerce.number('is not one that this list gave out').int().positive() });

/** @throws FleetError `node_not_found` for what cannot be a node's id */
function named(c: ApiContext): string {
  const id = param(c, 'id');
  if (!NODE_ID.test(id)) throw nodeNotFound(id);
  return id;
}
