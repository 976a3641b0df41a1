import { sql } from 'drizzle-orm';
import {
  bigint,
  boolean,
  doublePrecision,
  index,
  integer,
  jsonb,
  pgTable,
  primaryKey,
  smallint,
  text,
  uuid,
} from 'drizzle-orm/pg-core';
import type { ExecutionError, ExecutionReceipt } from './schema.js';
import { at, bytea, now, projectId } from './table-columns.js';

/** Where what became of an async invocation is sent: another function of the project, or a URL. */
export type Destination = { readonly function: string } | { readonly url: string };

/** What travels with an async invocation besides its payload. */
export interface AsyncContext {
  readonly traceId?: string;
  /** JSON text. */
  readonly clientContext?: string;
  /** Where a `webhook` goes. */
  readonly url?: string;
  /** The execution that this one was sent by, or is a replay of. */
  readonly sourceId?: string;
  /** How many destinations led here: a cycle ends. */
  readonly hops?: number;
  readonly scheduleId?: string;
  /** Milliseconds since the epoch. */
  readonly tickAt?: number;
}

/**
 * A queue of async invocations that take turns among each other: those of one function. Its row is written by every
 * statement that changes how many of them are queued, so that nobody has to count them. There is no row of most that are idle.
 */
export const lanes = pgTable(
  'lanes',
  {
    /** The function's id, or one derived from it. */
    id: uuid('id').primaryKey(),
    projectId: projectId(),
    queued: integer('queued').notNull(),
    queuedBytes: bigint('queued_bytes', { mode: 'number' }).notNull(),
    /** Nothing of it is due before; null when nothing is queued. */
    nextDue: at('next_due'),
    /** What it has been served, in invocations. The lane with the least is next. */
    virtualTime: doublePrecision('virtual_time').notNull(),
    /** Whether the last write made something due that nobody knew of. */
    turned: smallint('turned').notNull().default(0),
    /** Whether it is one of jobs: of those fewer may be in progress. */
    jobs: boolean('jobs').notNull().default(false),
  },
  (t) => [index('lanes_waiting').on(t.virtualTime).where(sql`next_due is not null`)],
);

/**
 * Async invocations and jobs until they have ended. What was accepted is here, in `executions` when it has ended, and in
 * `dead_letters` too when it ended badly: each step between them is one statement. A job has the id of its row in `jobs`,
 * which says what it is and how it ended, and is no dead letter.
 */
export const asyncInvocations = pgTable(
  'async_invocations',
  {
    /** UUID of version 7: the request id that every attempt sees. */
    id: uuid('id').primaryKey(),
    projectId: projectId(),
    laneId: uuid('lane_id').notNull(),
    kind: text('kind', { enum: ['function', 'webhook', 'job'] }).notNull(),
    functionId: uuid('function_id').notNull(),
    functionName: text('function_name').notNull(),
    /** Null: the newest at the time of the attempt. */
    versionId: uuid('version_id'),
    trigger: text('trigger').notNull(),
    payload: bytea('payload').notNull(),
    context: jsonb('context').$type<AsyncContext>().notNull(),
    status: text('status', { enum: ['queued', 'running'] })
      .notNull()
      .default('queued'),
    /** Rises with every attempt; a result that carries another one is too late. */
    epoch: integer('epoch').notNull().default(0),
    /** Attempts that its function answers for. */
    attempts: smallint('attempts').notNull().default(0),
    /** Attempts whose node was lost. */
    losses: smallint('losses').notNull().default(0),
    /** Attempts in a row that did not start. */
    deferrals: smallint('deferrals').notNull().default(0),
    /** A queued one is not tried before. */
    notBefore: at('not_before').notNull().default(now),
    /** Not begun after this. */
    expiresAt: at('expires_at').notNull(),
    /** Of the last attempt that ended. */
    outcome: text('outcome'),
    error: jsonb('error').$type<ExecutionError>(),
    receipt: jsonb('receipt').$type<ExecutionReceipt>(),
    /** Why it is queued again. */
    reason: text('reason'),
    /** The control plane that works on it, until then unless renewed. */
    owner: uuid('owner'),
    leaseUntil: at('lease_until'),
    /** The node that the current attempt was sent to, and the start of its agent. */
    nodeId: text('node_id'),
    bootId: text('boot_id'),
    cancelRequestedAt: at('cancel_requested_at'),
    acceptedAt: at('accepted_at').notNull().default(now),
    /** When the current attempt began. */
    startedAt: at('started_at'),
  },
  (t) => [
    index('async_invocations_queued').on(t.laneId, t.notBefore, t.id).where(sql`status = 'queued'`),
    index('async_invocations_leased').on(t.leaseUntil).where(sql`lease_until is not null`),
    index('async_invocations_project').on(t.projectId, t.id),
    /** Whether something of a schedule is in progress. */
    index('async_invocations_schedule').on(sql`(context ->> 'scheduleId')`).where(sql`trigger = 'schedule'`),
  ],
);

/** Async invocations that were given up, with what is needed to run them again. */
export const deadLetters = pgTable(
  'dead_letters',
  {
    /** The invocation's. */
    id: uuid('id').primaryKey(),
    projectId: projectId(),
    laneId: uuid('lane_id').notNull(),
    kind: text('kind', { enum: ['function', 'webhook'] }).notNull(),
    functionId: uuid('function_id').notNull(),
    functionName: text('function_name').notNull(),
    versionId: uuid('version_id'),
    trigger: text('trigger').notNull(),
    payload: bytea('payload').notNull(),
    context: jsonb('context').$type<AsyncContext>().notNull(),
    condition: text('condition', {
      enum: ['RetriesExhausted', 'EventAgeExceeded', 'NodesLost', 'FunctionGone'],
    }).notNull(),
    epoch: integer('epoch').notNull(),
    attempts: smallint('attempts').notNull(),
    losses: smallint('losses').notNull(),
    outcome: text('outcome').notNull(),
    error: jsonb('error').$type<ExecutionError>(),
    receipt: jsonb('receipt').$type<ExecutionReceipt>(),
    acceptedAt: at('accepted_at').notNull(),
    diedAt: at('died_at').notNull().default(now),
  },
  (t) => [
    index('dead_letters_project').on(t.projectId, t.id),
    index('dead_letters_function').on(t.projectId, t.functionName, t.id),
    index('dead_letters_died').on(t.diedAt),
  ],
);

/** Answers to requests that carried an Idempotency-Key, so that the same request gets the same answer. */
export const idempotencyKeys = pgTable(
  'idempotency_keys',
  {
    projectId: projectId(),
    /** What the key was used with: a function's id, or `jobs`. */
    scope: text('scope').notNull(),
    key: text('key').notNull(),
    /** SHA-256 of what was asked. */
    requestHash: bytea('request_hash').notNull(),
    invocationId: uuid('invocation_id').notNull(),
    /** Null while it runs. */
    statusCode: smallint('status_code'),
    headers: jsonb('headers').$type<string[]>(),
    body: bytea('body'),
    createdAt: at('created_at').notNull().default(now),
    /** While it runs: when it is certain that no answer comes any more. */
    runsUntil: at('runs_until').notNull(),
  },
  (t) => [primaryKey({ columns: [t.projectId, t.scope, t.key] }), index('idempotency_keys_created').on(t.createdAt)],
);
