import { byteaArray } from '../db/bytea-array.js';
import type { Database } from '../db/database.js';
import type { KeyClaim } from './idempotency-key.js';

/** A whole HTTP answer. */
export interface KeptAnswer {
  readonly status: number;
  /** Names and values in turn. */
  readonly headers: readonly string[];
  readonly body: Buffer;
}

/** What becomes of a key whose request has ended: it keeps the answer, or with null it is free again. */
export interface KeySettlement {
  readonly claim: KeyClaim;
  readonly answer: KeptAnswer | null;
}

/** Undefined when there is none, or none any more. */
export async function readAnswer(
  database: Database,
  { projectId, scope, key }: KeyClaim,
): Promise<KeptAnswer | undefined> {
  const [row] = await database.run(
    'read idempotent answer',
    (sql) => sql<{ status: number; headers: string[]; body: Buffer }[]>`
      select status_code as status, headers, body from idempotency_keys
      where project_id = ${projectId} and scope = ${scope} and key = ${key} and headers is not null`,
  );
  return row;
}

/** Settles keys in one statement. Those that somebody else holds by now, or that have an answer, stay as they are. */
export async function settleKeys(database: Database, settlements: readonly KeySettlement[]): Promise<void> {
  const rows = settlements.map(({ claim, answer }) => ({
    ...{ project_id: claim.projectId, scope: claim.scope, key: claim.key, invocation_id: claim.invocationId },
    ...{ status_code: answer?.status ?? null, headers: answer === null ? null : [...answer.headers] },
  }));
  const bodies = byteaArray(settlements.map(({ answer }) => answer?.body ?? null));
  await database.run(
    'settle idempotency keys',
    (sql) => sql`
      with settled as (
        select r.* from rows from (
          jsonb_to_recordset(${sql.json(rows)}) as (
            project_id text, scope text, key text, invocation_id uuid, status_code smallint, headers jsonb
          ),
          unnest(${bodies}::text::bytea[])
        ) as r (project_id, scope, key, invocation_id, status_code, headers, body)
      ), kept as (
        update idempotency_keys k set status_code = s.status_code, headers = s.headers, body = s.body
        from settled s
        where k.project_id = s.project_id and k.scope = s.scope and k.key = s.key and k.invocation_id = s.invocation_id
          and k.status_code is null and s.status_code is not null
      )
      delete from idempotency_keys k using settled s
      where k.project_id = s.project_id and k.scope = s.scope and k.key = s.key and k.invocation_id = s.invocation_id
        and k.status_code is null and s.status_code is null`,
  );
}
