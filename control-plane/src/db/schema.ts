import { sql } from 'drizzle-orm';
import {
  bigint,
  boolean,
  doublePrecision,
  foreignKey,
  index,
  integer,
  jsonb,
  pgTable,
  primaryKey,
  smallint,
  text,
  uniqueIndex,
  uuid,
} from 'drizzle-orm/pg-core';
import type { Destination } from './async-tables.js';
import type { ContainerImage, ImageSettings } from './build-tables.js';
import { at, bytea, now, projectId } from './table-columns.js';

/**
 * Every durable fact of the fleet. Each table carries `project_id`, so that no
 * query can be written that forgets whose row it reads.
 *
 * Ids of rows that are made in bulk are UUIDs of version 7: they sort by time,
 * so inserts stay at the right edge of the index.
 */

export * from './async-tables.js';
export * from './build-tables.js';
export * from './execution-tables.js';
export * from './metric-tables.js';
export * from './node-tables.js';
export * from './schedule-tables.js';
export { projects } from './table-columns.js';

export const apiKeys = pgTable(
  'api_keys',
  {
    id: uuid('id').primaryKey(),
    projectId: projectId(),
    name: text('name').notNull(),
    /** First characters of the key, public: they find the row. */
    prefix: text('prefix').notNull(),
    /** HMAC-SHA-256 of the whole key under the server's pepper. The key itself is stored nowhere. */
    hash: bytea('hash').notNull(),
    createdAt: at('created_at').notNull().default(now),
    revokedAt: at('revoked_at'),
  },
  (t) => [uniqueIndex('api_keys_prefix').on(t.prefix)],
);

/** Values that all replicas of one control plane share, such as the pepper of API keys. */
export const settings = pgTable(
  'settings',
  {
    projectId: projectId(),
    name: text('name').notNull(),
    value: bytea('value').notNull(),
  },
  (t) => [primaryKey({ columns: [t.projectId, t.name] })],
);

/** Content-addressed: code archives as uploaded, build contexts, layers of container images, descriptions of images. */
export const artifacts = pgTable(
  'artifacts',
  {
    projectId: projectId(),
    sha256: text('sha256').notNull(),
    bytes: bigint('bytes', { mode: 'number' }).notNull(),
    /** Of a layer of a container image, which is stored compressed and named by what it unpacks to. */
    unpackedBytes: bigint('unpacked_bytes', { mode: 'number' }),
    /** Set once every chunk is there. Until then the artifact does not exist for readers. */
    complete: boolean('complete').notNull().default(false),
    /** The last time that it was put: one that no version uses is removed some time after this. */
    touchedAt: at('touched_at').notNull().default(now),
  },
  (t) => [primaryKey({ columns: [t.projectId, t.sha256] })],
);

export const artifactChunks = pgTable(
  'artifact_chunks',
  {
    projectId: projectId(),
    sha256: text('sha256').notNull(),
    sequence: integer('sequence').notNull(),
    data: bytea('data').notNull(),
  },
  (t) => [
    primaryKey({ columns: [t.projectId, t.sha256, t.sequence] }),
    foreignKey({
      columns: [t.projectId, t.sha256],
      foreignColumns: [artifacts.projectId, artifacts.sha256],
      name: 'artifact_chunks_artifact',
    }).onDelete('cascade'),
  ],
);

/** What a container image stands on. The image is an artifact too: its description, which also lists the layers. */
export const imageLayers = pgTable(
  'image_layers',
  {
    projectId: projectId(),
    imageSha256: text('image_sha256').notNull(),
    layerSha256: text('layer_sha256').notNull(),
  },
  (t) => [
    primaryKey({ columns: [t.projectId, t.imageSha256, t.layerSha256] }),
    index('image_layers_layer').on(t.projectId, t.layerSha256),
    foreignKey({
      columns: [t.projectId, t.imageSha256],
      foreignColumns: [artifacts.projectId, artifacts.sha256],
      name: 'image_layers_image',
    }).onDelete('cascade'),
    /** A layer that an image stands on cannot be removed. */
    foreignKey({
      columns: [t.projectId, t.layerSha256],
      foreignColumns: [artifacts.projectId, artifacts.sha256],
      name: 'image_layers_layer_exists',
    }),
  ],
);

export const functions = pgTable(
  'functions',
  {
    id: uuid('id').primaryKey(),
    projectId: projectId(),
    name: text('name').notNull(),
    /** What `POST /api/execute/:route` finds it by; its name unless set. */
    route: text('route').notNull(),
    /** Whether the gateway asks for a key: `key` or `public`. */
    httpAuth: text('http_auth', { enum: ['key', 'public'] }).notNull(),
    /** The newest version, which `$LATEST` names. */
    latestVersionId: uuid('latest_version_id').notNull(),
    /** Attempts after the first one that an async invocation gets when the function fails. */
    asyncRetries: smallint('async_retries').notNull().default(2),
    /** Milliseconds before each of them; the last one stands for those that follow. */
    asyncRetryDelaysMs: jsonb('async_retry_delays_ms').$type<number[]>().notNull().default([60_000, 120_000]),
    asyncMaxAgeMs: integer('async_max_age_ms').notNull().default(21_600_000),
    onSuccess: jsonb('on_success').$type<Destination>(),
    onFailure: jsonb('on_failure').$type<Destination>(),
    /** Invocations at once that others cannot take from it, and that it cannot exceed. 0 is off, null none. */
    reservedConcurrency: integer('reserved_concurrency'),
    /** Invocations at once that it cannot exceed, though others may take them. Null is no limit of its own. */
    maximumConcurrency: integer('maximum_concurrency'),
    /** Whether executions keep the event and the result. */
    keepPayloads: boolean('keep_payloads').notNull().default(true),
    createdAt: at('created_at').notNull().default(now),
    updatedAt: at('updated_at').notNull().default(now),
  },
  (t) => [
    uniqueIndex('functions_project_name').on(t.projectId, t.name),
    uniqueIndex('functions_project_route').on(t.projectId, t.route),
    // Few, and looked for whenever executions are recorded.
    index('functions_keeping_nothing').on(t.id).where(sql`not keep_payloads`),
  ],
);

/** Immutable: a change of code or configuration makes the next number. */
export const versions = pgTable(
  'versions',
  {
    id: uuid('id').primaryKey(),
    projectId: projectId(),
    functionId: uuid('function_id')
      .notNull()
      .references(() => functions.id, { onDelete: 'cascade' }),
    number: integer('number').notNull(),
    runtime: text('runtime').notNull(),
    handler: text('handler').notNull(),
    memoryMb: integer('memory_mb').notNull(),
    cpus: doublePrecision('cpus').notNull(),
    timeoutMs: integer('timeout_ms').notNull(),
    initTimeoutMs: integer('init_timeout_ms').notNull(),
    keepAliveMs: integer('keep_alive_ms').notNull(),
    environment: jsonb('environment').$type<Record<string, string>>().notNull(),
    artifactSha256: text('artifact_sha256').notNull(),
    artifactBytes: bigint('artifact_bytes', { mode: 'number' }).notNull(),
    isolation: text('isolation', { enum: ['auto', 'gvisor', 'runc'] })
      .notNull()
      .default('auto'),
    network: text('network', { enum: ['none', 'egress'] })
      .notNull()
      .default('none'),
    egressHosts: jsonb('egress_hosts').$type<string[]>().notNull().default([]),
    /** That a node must have. */
    labels: jsonb('labels').$type<Record<string, string>>().notNull().default({}),
    concurrency: integer('concurrency').notNull().default(1),
    keepRunning: boolean('keep_running').notNull().default(false),
    provisionedConcurrency: integer('provisioned_concurrency').notNull().default(0),
    /** Null for an archive. For a container image what its artifact describes. */
    image: jsonb('image').$type<ContainerImage>(),
    imageSettings: jsonb('image_settings').$type<ImageSettings>().notNull().default({}),
    createdAt: at('created_at').notNull().default(now),
  },
  (t) => [
    uniqueIndex('versions_function_number').on(t.functionId, t.number),
    index('versions_artifact').on(t.projectId, t.artifactSha256),
    /** Removing an unused artifact and deploying it at the same moment: one of the two fails, no version loses its code. */
    foreignKey({
      columns: [t.projectId, t.artifactSha256],
      foreignColumns: [artifacts.projectId, artifacts.sha256],
      name: 'versions_artifact_exists',
    }),
  ],
);

/**
 * One row per finished invocation, written behind in batches. It outlives its
 * function, so it holds the name and has no foreign key to it.
 */
export const executions = pgTable(
  'executions',
  {
    /** The invocation's id, a UUID of version 7. */
    id: uuid('id').primaryKey(),
    projectId: projectId(),
    functionId: uuid('function_id').notNull(),
    functionName: text('function_name').notNull(),
    versionId: uuid('version_id').notNull(),
    versionNumber: integer('version_number').notNull(),
    trigger: text('trigger').notNull(),
    epoch: integer('epoch').notNull(),
    outcome: text('outcome').notNull(),
    statusCode: smallint('status_code'),
    error: jsonb('error').$type<ExecutionError>(),
    receipt: jsonb('receipt').$type<ExecutionReceipt>().notNull(),
    nodeId: text('node_id'),
    /** The event and the result, as text when they are UTF-8, up to 64 KiB; absent when longer. See `execution_bodies`. */
    input: text('input'),
    output: text('output'),
    startedAt: at('started_at').notNull(),
    finishedAt: at('finished_at').notNull(),
    /** Attempts that its function answers for; more than one only of async invocations. */
    attempts: smallint('attempts').notNull().default(1),
    /** When an async invocation was accepted. */
    acceptedAt: at('accepted_at'),
    /** By the database's clock: rows of a time are complete a statement's deadline later. */
    recordedAt: at('recorded_at').notNull().default(now),
  },
  (t) => [
    index('executions_recorded').on(t.recordedAt),
    // Ascending, and read backwards: drizzle's own `desc()` puts nulls last, which `order by id desc` cannot use.
    index('executions_by_project').on(t.projectId, t.id),
    index('executions_by_function').on(t.projectId, t.functionName, t.id),
    /** The newest failures, however rare they are. */
    index('executions_failed').on(t.projectId, t.id).where(sql`outcome <> 'success'`),
    index('executions_failed_by_function').on(t.projectId, t.functionName, t.id).where(sql`outcome <> 'success'`),
  ],
);

export interface ExecutionError {
  readonly errorType: string;
  readonly errorMessage: string;
  readonly trace?: readonly string[];
  /** Where the code does not parse; from 1. */
  readonly location?: { readonly file: string; readonly line: number; readonly column: number };
}

/** Durations are milliseconds with fractions. Phases that did not happen are absent. */
export interface ExecutionReceipt {
  readonly start?: 'warm' | 'blank' | 'cold';
  readonly sandboxId?: string;
  readonly resolveMs?: number;
  readonly receiveMs?: number;
  readonly admitMs?: number;
  readonly placeMs?: number;
  readonly queueMs?: number;
  readonly sandboxMs?: number;
  readonly initMs?: number;
  readonly runMs?: number;
  readonly totalMs?: number;
  readonly cpuMs?: number;
  readonly memoryPeakBytes?: number;
  readonly memoryMb?: number;
  /** Processor time and memory are those of a sandbox that ran other invocations meanwhile. */
  readonly shared?: true;
  readonly isolation?: string;
  readonly fault?: 'function' | 'platform';
}

/**
 * Code that is sent along: what it is, and how it ended. Until then its state is that of the row of `async_invocations`
 * with the same id, and here are only the defaults.
 */
export const jobs = pgTable(
  'jobs',
  {
    /** UUID of version 7, also the id of the version that agents are given. */
    id: uuid('id').primaryKey(),
    projectId: projectId(),
    status: text('status', { enum: ['queued', 'running', 'succeeded', 'failed', 'timed_out', 'cancelled'] })
      .notNull()
      .default('queued'),
    runtime: text('runtime').notNull(),
    memoryMb: integer('memory_mb').notNull(),
    timeoutMs: integer('timeout_ms').notNull(),
    initTimeoutMs: integer('init_timeout_ms').notNull(),
    retries: smallint('retries').notNull(),
    code: text('code').notNull(),
    /** JSON text and not `jsonb`, which cannot hold every JSON text. Null when it is long: then the queue alone has it. */
    args: text('args'),
    argsBytes: integer('args_bytes').notNull(),
    /** Those that its code answers for, and the one that it ended with. */
    attempts: smallint('attempts').notNull().default(0),
    /** Its own id, which all its attempts share, if any began. Jobs of earlier releases had one for each attempt. */
    executionIds: jsonb('execution_ids').$type<string[]>().notNull().default([]),
    /** Not used any more, as are `reason` and `boot_id`: to be dropped when no release that knows them can be run again. */
    notBefore: at('not_before').notNull().default(now),
    reason: text('reason'),
    cancelRequestedAt: at('cancel_requested_at'),
    /** The node that the last attempt was sent to. */
    nodeId: text('node_id'),
    bootId: text('boot_id'),
    outcome: text('outcome'),
    error: jsonb('error').$type<ExecutionError>(),
    /** JSON text. Null when there is none or it was too long to keep, which `result_bytes` tells apart. */
    result: text('result'),
    resultBytes: integer('result_bytes'),
    receipt: jsonb('receipt').$type<ExecutionReceipt>(),
    createdAt: at('created_at').notNull().default(now),
    /** Of the last attempt. */
    startedAt: at('started_at'),
    finishedAt: at('finished_at'),
  },
  (t) => [
    index('jobs_project').on(t.projectId, t.id),
    // Each of these of a part of the rows alone: no other index may seem to be a way to a job of which project and id are known.
    index('jobs_finished_by_status').on(t.projectId, t.status, t.id).where(sql`finished_at is not null`),
    /** Few rows, whatever the table holds. */
    index('jobs_unfinished').on(t.projectId, t.id).where(sql`finished_at is null`),
    index('jobs_finished').on(t.finishedAt).where(sql`finished_at is not null`),
  ],
);

export const logLines = pgTable(
  'log_lines',
  {
    /** Order of arrival: what a follower resumes after. */
    id: bigint('id', { mode: 'number' }).primaryKey().generatedAlwaysAsIdentity(),
    projectId: projectId(),
    functionId: uuid('function_id').notNull(),
    executionId: uuid('execution_id').notNull(),
    versionId: uuid('version_id').notNull(),
    /** The attempt: each counts its lines from 0. */
    epoch: integer('epoch').notNull().default(1),
    sequence: integer('sequence').notNull(),
    at: at('at').notNull(),
    stream: text('stream', { enum: ['stdout', 'stderr', 'platform'] }).notNull(),
    level: text('level').notNull(),
    text: text('text').notNull(),
  },
  (t) => [
    /** A batch that is sent again after a lost acknowledgement changes nothing. */
    uniqueIndex('log_lines_once').on(t.executionId, t.epoch, t.sequence),
    index('log_lines_function').on(t.projectId, t.functionId, t.id),
  ],
);

/**
 * How much was logged in each minute, by the time of arrival: what retention needs to know to stay within a size without
 * looking at lines. Written in the statement that stores them.
 */
export const logMinutes = pgTable(
  'log_minutes',
  {
    minute: at('minute').notNull(),
    projectId: projectId(),
    /** On the disk, roughly: text, columns and index entries. */
    bytes: bigint('bytes', { mode: 'number' }).notNull(),
    lastId: bigint('last_id', { mode: 'number' }).notNull(),
  },
  (t) => [primaryKey({ columns: [t.minute, t.projectId] })],
);
