import { index, pgTable, uuid } from 'drizzle-orm/pg-core';
import { at, bytea, now, projectId } from './table-columns.js';

/**
 * Events and results of executions, byte for byte, for as long as a replay has to be exact. Only those that the text in
 * `executions` cannot give back: a row is there for few of them, and a column for one side or both.
 */
export const executionBodies = pgTable(
  'execution_bodies',
  {
    executionId: uuid('execution_id').primaryKey(),
    projectId: projectId(),
    input: bytea('input'),
    output: bytea('output'),
    keptAt: at('kept_at').notNull().default(now),
  },
  (t) => [index('execution_bodies_kept').on(t.keptAt)],
);
