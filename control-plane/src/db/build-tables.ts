import { sql } from 'drizzle-orm';
import { bigint, boolean, index, integer, jsonb, pgTable, primaryKey, text, uuid } from 'drizzle-orm/pg-core';
import { at, now, projectId } from './table-columns.js';

/** A container image as its build found it. Layers from the base up. */
export interface ContainerImage {
  readonly architecture: string;
  readonly layers: readonly { readonly sha256: string; readonly bytes: number }[];
  readonly entrypoint: readonly string[];
  readonly command: readonly string[];
  /** `NAME=value`. */
  readonly environment: readonly string[];
  readonly workingDirectory: string;
  /** TCP. */
  readonly exposedPorts: readonly number[];
}

/** What a function's owner says in place of its image. A port of null: it speaks the Runtime API. */
export interface ImageSettings {
  readonly port?: number | null;
  readonly entrypoint?: readonly string[];
  readonly command?: readonly string[];
  readonly workingDirectory?: string;
}

/** One row per build of a container image, renewed by the replica that runs it. Outlives its function. */
export const builds = pgTable(
  'builds',
  {
    /** UUID of version 7. */
    id: uuid('id').primaryKey(),
    projectId: projectId(),
    functionName: text('function_name').notNull(),
    state: text('state', { enum: ['queued', 'building', 'checking', 'succeeded', 'failed', 'cancelled'] }).notNull(),
    contextSha256: text('context_sha256').notNull(),
    contextBytes: bigint('context_bytes', { mode: 'number' }).notNull(),
    nodeId: text('node_id'),
    /** The version that came of it. */
    version: integer('version'),
    error: jsonb('error').$type<BuildError>(),
    warnings: jsonb('warnings').$type<string[]>().notNull().default([]),
    createdAt: at('created_at').notNull().default(now),
    finishedAt: at('finished_at'),
    /** The last time that the replica which runs it said so. */
    renewedAt: at('renewed_at').notNull().default(now),
    /** Asked for by any replica, done by the one that runs it. */
    cancelRequested: boolean('cancel_requested').notNull().default(false),
  },
  (t) => [
    index('builds_function').on(t.projectId, t.functionName, t.id.desc()),
    index('builds_unfinished').on(t.renewedAt).where(sql`finished_at is null`),
  ],
);

export interface BuildError {
  readonly code: string;
  readonly message: string;
}

export const buildLines = pgTable(
  'build_lines',
  {
    projectId: projectId(),
    buildId: uuid('build_id')
      .notNull()
      .references(() => builds.id, { onDelete: 'cascade' }),
    /** Rises by one per line of a build, from 1. */
    sequence: integer('sequence').notNull(),
    at: at('at').notNull(),
    stream: text('stream', { enum: ['stdout', 'stderr', 'platform'] }).notNull(),
    text: text('text').notNull(),
  },
  (t) => [primaryKey({ columns: [t.buildId, t.sequence] })],
);
