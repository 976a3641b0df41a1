import { sql } from 'drizzle-orm';
import { customType, pgTable, text, timestamp } from 'drizzle-orm/pg-core';

/** Columns that tables have in common. */

export const bytea = customType<{ data: Buffer; driverData: Buffer }>({ dataType: () => 'bytea' });
export const now = sql`now()`;
export const at = (name: string) => timestamp(name, { withTimezone: true, mode: 'date' });

export const projects = pgTable('projects', {
  /** `default` exists from the first migration. */
  projectId: text('project_id').primaryKey(),
  createdAt: at('created_at').notNull().default(now),
});

export const projectId = () =>
  text('project_id')
    .notNull()
    .references(() => projects.projectId);
