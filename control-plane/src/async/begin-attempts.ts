import type { Database } from '../db/database.js';

/** An attempt that is about to be sent to a node. */
export interface BeginningAttempt {
  readonly id: string;
  readonly epoch: number;
  readonly owner: string;
  readonly nodeId: string;
  readonly bootId: string;
}

/**
 * Writes down where attempts are sent to, before they are: whoever finds them later knows whom to ask. For each: whether it
 * may be sent. Not when it was cancelled, or when this process let its lease run out and somebody else took it.
 */
export async function beginAttempts(
  database: Database,
  attempts: readonly BeginningAttempt[],
): Promise<readonly boolean[]> {
  const rows = attempts.map(({ id, epoch, owner, nodeId, bootId }) => ({
    ...{ id, epoch, owner, node_id: nodeId, boot_id: bootId },
  }));
  const begun = await database.run(
    'begin async attempts',
    (sql) => sql<{ id: string }[]>`
      update async_invocations a set node_id = b.node_id, boot_id = b.boot_id, started_at = now()
      from jsonb_to_recordset(${sql.json(rows)}) as b (id uuid, epoch integer, owner uuid, node_id text, boot_id text)
      where a.id = b.id and a.epoch = b.epoch and a.owner = b.owner and a.status = 'running' and a.cancel_requested_at is null
      returning a.id`,
  );
  const ids = new Set(begun.map(({ id }) => id));
  return attempts.map(({ id }) => ids.has(id));
}
