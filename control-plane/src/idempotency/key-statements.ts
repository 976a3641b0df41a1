import type postgres from 'postgres';
import type { Sql } from '../db/connection-target.js';
import type { KeyClaim } from './idempotency-key.js';

type Fragment = postgres.PendingQuery<postgres.Row[]>;

/**
 * Parts of statements that take keys. Together they are
 *
 *     with wanted as (…), claimed as (…) select … from wanted w left join lateral (…) used on true
 *
 * A key that another statement takes at the same moment is neither in `claimed`, because it was waited for and is taken, nor
 * `used`, because this statement does not see what began after it: such a request asks again.
 */

/** Rows of claims; no two of them may have the same key. */
export function wantedKeys(sql: Sql, claims: readonly KeyClaim[]): Fragment {
  const rows = claims.map(({ projectId, scope, key, requestHash, invocationId, runsMs }) => ({
    ...{ project_id: projectId, scope, key, request_hash: requestHash, invocation_id: invocationId, runs_ms: runsMs },
  }));
  return sql`
    select project_id, scope, key, decode(request_hash, 'hex') as request_hash, invocation_id, runs_ms
    from jsonb_to_recordset(${sql.json(rows)}) as r (
      project_id text, scope text, key text, request_hash text, invocation_id uuid, runs_ms double precision
    )`;
}

/**
 * The expression `claimed`: the `invocation_id` of each row of `from` whose key was free and is now taken. With a
 * `statusCode` it has its answer at once, all of it that is kept.
 *
 * Keys are written in order, so that no two statements wait for each other.
 */
export function claimKeys(sql: Sql, from: Fragment, statusCode: number | null): Fragment {
  return sql`
    claimed as (
      insert into idempotency_keys (project_id, scope, key, request_hash, invocation_id, status_code, runs_until)
      select project_id, scope, key, request_hash, invocation_id, ${statusCode}::smallint,
        now() + runs_ms * interval '1 millisecond'
      from ${from} order by project_id, scope, key
      on conflict do nothing
      returning invocation_id
    )`;
}

/** The {@link UsedKey} of `w`, a row of `wanted`: for a lateral join, which finds it by the primary key. */
export function usedKey(sql: Sql): Fragment {
  return sql`
    select encode(k.request_hash, 'hex') as request_hash, k.invocation_id, k.status_code, k.created_at,
      (extract(epoch from now() - k.created_at) * 1000)::double precision as age_ms,
      (extract(epoch from k.runs_until - now()) * 1000)::double precision as left_ms
    from idempotency_keys k where k.project_id = w.project_id and k.scope = w.scope and k.key = w.key
    limit 1`;
}
