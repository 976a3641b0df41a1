import { bigint, doublePrecision, index, integer, jsonb, pgTable, primaryKey, text, uuid } from 'drizzle-orm/pg-core';
import { at, projectId } from './table-columns.js';

/** How often each bucket was met: `{"113": 4}`. What a bucket stands for is said in `metrics/histogram.ts`. */
export type SparseHistogram = Readonly<Record<string, number>>;

/**
 * What is known of the executions that were recorded in one stretch of time: everything adds up, so that any window is the
 * sum of its rows.
 */
const figures = () => ({
  projectId: projectId(),
  /** The nil UUID for all functions of the project together, deleted ones included. */
  functionId: uuid('function_id').notNull(),
  functionName: text('function_name').notNull(),
  /** Executions, however they ended. */
  invocations: integer('invocations').notNull(),
  functionErrors: integer('function_errors').notNull(),
  timeouts: integer('timeouts').notNull(),
  outcomeUnknown: integer('outcome_unknown').notNull(),
  notStarted: integer('not_started').notNull(),
  /** Calls that were turned away. They are no executions. */
  throttles: integer('throttles').notNull(),
  cold: integer('cold').notNull(),
  blank: integer('blank').notNull(),
  warm: integer('warm').notNull(),
  durationMs: doublePrecision('duration_ms').notNull(),
  cpuMs: doublePrecision('cpu_ms').notNull(),
  /** 0 when no node could measure it. */
  memoryPeakBytes: bigint('memory_peak_bytes', { mode: 'number' }).notNull(),
  durations: jsonb('durations').$type<SparseHistogram>().notNull(),
  cpus: jsonb('cpus').$type<SparseHistogram>().notNull(),
});

export const functionMinutes = pgTable('function_minutes', { minute: at('minute').notNull(), ...figures() }, (t) => [
  primaryKey({ columns: [t.projectId, t.functionId, t.minute] }),
  /** For removing the oldest. */
  index('function_minutes_minute').on(t.minute),
]);

export const functionHours = pgTable('function_hours', { hour: at('hour').notNull(), ...figures() }, (t) => [
  primaryKey({ columns: [t.projectId, t.functionId, t.hour] }),
  /** For removing the oldest, and for comparing all functions of a few hours. */
  index('function_hours_hour').on(t.hour),
]);

/** How far executions have been added to the figures: its only row belongs to the fleet, and whoever moves it adds them. */
export const metricProgress = pgTable('metric_progress', {
  name: text('name').primaryKey(),
  projectId: projectId(),
  /** Executions that were recorded before are in. */
  rolledUntil: at('rolled_until').notNull(),
});
