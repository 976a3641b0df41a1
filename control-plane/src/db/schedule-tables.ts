import { sql } from 'drizzle-orm';
import {
  bigint,
  boolean,
  foreignKey,
  index,
  integer,
  pgTable,
  primaryKey,
  text,
  uniqueIndex,
  uuid,
} from 'drizzle-orm/pg-core';
import { functions } from './schema.js';
import { at, bytea, now, projectId } from './table-columns.js';

/**
 * When functions are run by themselves. The row holds the next tick, and whoever writes another one into it has taken
 * that tick: see `revision`.
 */
export const schedules = pgTable(
  'schedules',
  {
    /** UUID of version 7. */
    id: uuid('id').primaryKey(),
    projectId: projectId(),
    /** Never in the form of a UUID: both find the row. */
    name: text('name').notNull(),
    functionId: uuid('function_id').notNull(),
    functionName: text('function_name').notNull(),
    expression: text('expression').notNull(),
    timeZone: text('time_zone').notNull(),
    /** What `rate(…)` counts from. */
    anchorAt: at('anchor_at').notNull(),
    /** JSON text; null: the event that says which tick it is. */
    payload: bytea('payload'),
    enabled: boolean('enabled').notNull(),
    overlap: text('overlap', { enum: ['skip', 'queue', 'allow'] }).notNull(),
    catchUpMs: integer('catch_up_ms').notNull(),
    jitterMs: integer('jitter_ms').notNull(),
    /** Null while paused, and when there is none any more. */
    nextTickAt: at('next_tick_at'),
    /** The tick that waits for an earlier one's invocation to end. */
    waitingTickAt: at('waiting_tick_at'),
    /** Rises with every write: who decides by what it read writes nothing when that is not true any more. */
    revision: integer('revision').notNull().default(0),
    createdAt: at('created_at').notNull().default(now),
    updatedAt: at('updated_at').notNull().default(now),
  },
  (t) => [
    uniqueIndex('schedules_project_name').on(t.projectId, t.name),
    index('schedules_function').on(t.functionId),
    index('schedules_due').on(t.nextTickAt).where(sql`enabled`),
    index('schedules_waiting').on(t.id).where(sql`enabled and waiting_tick_at is not null`),
    foreignKey({
      columns: [t.functionId],
      foreignColumns: [functions.id],
      name: 'schedules_function_exists',
    }).onDelete('cascade'),
  ],
);

/**
 * What became of ticks, in the order in which it was decided. No foreign key: with its function a schedule may lose a
 * thousand of these, and a thousand schedules go with one function; the sweep removes what is left.
 */
export const scheduleTicks = pgTable(
  'schedule_ticks',
  {
    scheduleId: uuid('schedule_id').notNull(),
    id: bigint('id', { mode: 'number' }).notNull().generatedAlwaysAsIdentity(),
    projectId: projectId(),
    trigger: text('trigger', { enum: ['schedule', 'manual'] }).notNull(),
    tickAt: at('tick_at').notNull(),
    outcome: text('outcome', { enum: ['ran', 'skipped', 'waiting', 'missed', 'queue_full'] }).notNull(),
    /** The one that was queued for it. */
    invocationId: uuid('invocation_id'),
    /** How many ticks the row stands for. */
    count: integer('count').notNull().default(1),
    /** Of several: they came before this. */
    until: at('until'),
    recordedAt: at('recorded_at').notNull().default(now),
  },
  (t) => [primaryKey({ columns: [t.scheduleId, t.id] }), index('schedule_ticks_recorded').on(t.recordedAt)],
);
