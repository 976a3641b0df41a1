import type postgres from 'postgres';
import type { Sql } from '../db/connection-target.js';
import type { Database } from '../db/database.js';

interface Ref {
  readonly id: string;
  readonly epoch: number;
}

/** Says that this process still works on these. Returns those that somebody has asked to be cancelled, perhaps at another replica. */
export async function renewLeases(
  database: Database,
  owner: string,
  leaseMs: number,
  refs: readonly Ref[],
): Promise<readonly string[]> {
  const cancelled = await database.run(
    'renew async leases',
    (sql) => sql<{ id: string }[]>`
      with mine as (${stillMine(sql, owner, refs)}), renewed as (
        update async_invocations a set lease_until = now() + ${leaseMs} * interval '1 millisecond' from mine where a.id = mine.id
        returning a.id, a.cancel_requested_at
      )
      select id from renewed where cancel_requested_at is not null`,
  );
  return cancelled.map(({ id }) => id);
}

/** Leaves these to whoever is told how they ended, or looks for them first. */
export async function letGo(database: Database, owner: string, refs: readonly Ref[]): Promise<void> {
  if (refs.length === 0) return;
  await database.run(
    'let go of async invocations',
    (sql) => sql`
      with mine as (${stillMine(sql, owner, refs)})
      update async_invocations a set owner = null, lease_until = now() from mine where a.id = mine.id`,
  );
}

/**
 * What somebody else has taken meanwhile is left to them, and so is what is being written at this moment: waiting for it would
 * be a circle when its writer waits for another one of these.
 */
function stillMine(sql: Sql, owner: string, refs: readonly Ref[]): postgres.PendingQuery<postgres.Row[]> {
  return sql`
    select a.id
    from async_invocations a
    join jsonb_to_recordset(${sql.json(refs.map(({ id, epoch }) => ({ id, epoch })))}) as r (id uuid, epoch integer)
      on r.id = a.id and r.epoch = a.epoch
    where a.owner = ${owner}::uuid and a.status = 'running' for update of a skip locked`;
}
