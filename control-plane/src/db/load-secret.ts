import { randomBytes } from 'node:crypto';
import type { Database } from './database.js';

/**
 * A secret of 32 bytes that is made once and is the same for every replica.
 *
 * @throws FleetError `unavailable`
 */
export async function loadSecret(database: Database, name: string): Promise<Buffer> {
  for (;;) {
    const [row] = await database.run(
      `load ${name}`,
      (sql) => sql<{ value: Buffer }[]>`
        with made as (
          insert into settings (project_id, name, value) values ('default', ${name}, ${randomBytes(32)})
          on conflict do nothing returning value
        )
        select value from made
        union all
        select value from settings where project_id = 'default' and name = ${name}`,
    );
    // Nothing comes back only when another replica's insert committed in between: it is there now.
    if (row !== undefined) return row.value;
  }
}
