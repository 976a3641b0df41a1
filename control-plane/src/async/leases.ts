import type { Database } from '../db/database.js';

interface Ref {
  readonly id: string;
  readonly epoch: number;
}

/** Says that this process still works on these. What somebody else has taken meanwhile is left to them. */
export async function renewLeases(
  database: Database,
  owner: string,
  leaseMs: number,
  refs: readonly Ref[],
): Promise<void> {
  await database.run(
    'renew async leases',
    (sql) => sql`
      update async_invocations a set lease_until = now() + ${leaseMs} * interval '1 millisecond'
      from jsonb_to_recordset(${sql.json(refs.map(refRow))}) as r (id uuid, epoch integer)
      where a.id = r.id and a.epoch = r.epoch and a.owner = ${owner}::uuid and a.status = 'running'`,
  );
}

/** Leaves these to whoever is told how they ended, or looks for them first. */
export async function letGo(database: Database, owner: string, refs: readonly Ref[]): Promise<void> {
  if (refs.length === 0) return;
  await database.run(
    'let go of async invocations',
    (sql) => sql`
      update async_invocations a set owner = null, lease_until = now()
      from jsonb_to_recordset(${sql.json(refs.map(refRow))}) as r (id uuid, epoch integer)
      where a.id = r.id and a.epoch = r.epoch and a.owner = ${owner}::uuid and a.status = 'running'`,
  );
}

function refRow({ id, epoch }: Ref) {
  return { id, epoch };
}
