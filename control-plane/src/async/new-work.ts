import type postgres from 'postgres';
import { byteaArray } from '../db/bytea-array.js';
import type { Sql } from '../db/connection-target.js';
import type { NewAsyncInvocation } from './async-invocation.js';

/** New invocations as the rows that {@link enqueue} takes, due at once. */
export function newWork(sql: Sql, invocations: readonly NewAsyncInvocation[]): postgres.PendingQuery<postgres.Row[]> {
  const rows = invocations.map((invocation) => ({
    id: invocation.id,
    project_id: invocation.projectId,
    lane_id: invocation.laneId,
    kind: invocation.kind,
    function_id: invocation.functionId,
    function_name: invocation.functionName,
    version_id: invocation.versionId,
    trigger: invocation.trigger,
    context: { ...invocation.context },
    max_age_ms: invocation.maxAgeMs,
  }));
  const payloads = byteaArray(invocations.map(({ payload }) => payload));
  return sql`
    select r.*, now() as not_before, now() + r.max_age_ms * interval '1 millisecond' as expires_at
    from rows from (
      jsonb_to_recordset(${sql.json(rows)}) as (
        id uuid, project_id text, lane_id uuid, kind text, function_id uuid, function_name text, version_id uuid,
        trigger text, context jsonb, max_age_ms bigint
      ),
      unnest(${payloads}::text::bytea[])
    ) as r (
      id, project_id, lane_id, kind, function_id, function_name, version_id, trigger, context, max_age_ms, payload
    )`;
}
