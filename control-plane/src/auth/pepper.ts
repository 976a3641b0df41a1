import { randomBytes } from 'node:crypto';
import type { Database } from '../db/database.js';

const NAME = 'api-key-pepper';

/** The secret under which keys are hashed: made once, the same for every replica. */
export async function loadPepper(database: Database): Promise<Buffer> {
  for (;;) {
    const [row] = await database.run(
      'load pepper',
      (sql) => sql<{ value: Buffer }[]>`
        with made as (
          insert into settings (project_id, name, value) values ('default', ${NAME}, ${randomBytes(32)})
          on conflict do nothing returning value
        )
        select value from made
        union all
        select value from settings where project_id = 'default' and name = ${NAME}`,
    );
    // Nothing comes back only when another replica's insert committed in between: it is there now.
    if (row !== undefined) return row.value;
  }
}
