import type postgres from 'postgres';
import type { Sql } from '../db/connection-target.js';
import type { Database } from '../db/database.js';
import type { ExecutionError, ExecutionReceipt } from '../db/schema.js';
import { type ExecutionRecord, executionRows, haveBodies } from '../executions/execution-rows.js';
import { recordExecutions } from '../executions/record-executions.js';
import type { OutcomeName } from '../invocations/invocation.js';
import type { JobEnd } from '../jobs/job-end.js';
import type { DeadLetterCondition, NewAsyncInvocation } from './async-invocation.js';
import { fillLanes, insertQueued, wakeQueue } from './enqueue.js';
import { newWork } from './new-work.js';

/** What is to be written at the end of an attempt. */
export interface Settlement {
  readonly id: string;
  readonly epoch: number;
  /** Written by somebody who does not hold it: only if nobody has a lease on it. */
  readonly adrift: boolean;
  /** `end`: it leaves the queue. `again`: it is queued. `drift`: it stays as running, and nobody holds it any more. */
  readonly action: 'end' | 'again' | 'drift';
  readonly attempts: number;
  readonly losses: number;
  readonly deferrals: number;
  readonly delayMs: number;
  readonly reason: string | null;
  readonly outcome: OutcomeName;
  readonly error: ExecutionError | null;
  readonly receipt: ExecutionReceipt | null;
  /** With `end`: why it goes to the dead letters, if it does. */
  readonly condition: DeadLetterCondition | null;
  /** With `end`. */
  readonly record: ExecutionRecord | undefined;
  /** With `end`, of a job. */
  readonly job: JobEnd | undefined;
  /** With `end`: what is queued in the same moment. */
  readonly sends: NewAsyncInvocation | undefined;
}

/**
 * Writes the ends of attempts in one statement: executions, jobs, dead letters, what is sent to destinations, and what is
 * queued again. For each: whether it was written. Not when another attempt has begun, it has ended already, or it is to be
 * cancelled and was to be queued again.
 *
 * An invocation is locked before its lane, as everybody does, so that nobody waits in a circle.
 */
export async function settleAttempts(
  database: Database,
  settlements: readonly Settlement[],
): Promise<readonly boolean[]> {
  const rows = settlements.map((s) => ({
    id: s.id,
    epoch: s.epoch,
    adrift: s.adrift,
    action: s.action,
    attempts: s.attempts,
    losses: s.losses,
    deferrals: s.deferrals,
    delay_ms: s.delayMs,
    reason: s.reason,
    outcome: s.outcome,
    error: s.error === null ? null : { ...s.error },
    receipt: s.receipt === null ? null : { ...s.receipt },
    condition: s.condition,
    job: s.job,
  }));
  const records = settlements.flatMap(({ record }) => record ?? []);
  const sends = settlements.filter((s) => s.sends !== undefined);
  const sent = sends.map((s) => s.sends as NewAsyncInvocation);
  const senders = sends.map(({ id, sends }) => ({ id, sends: sends?.id ?? '' }));
  const [answer] = await database.run(
    'settle async attempts',
    (sql) => sql<{ written: string[] | null }[]>`
      with e as (
        select * from jsonb_to_recordset(${sql.json(rows as never)}) as r (
          id uuid, epoch integer, adrift boolean, action text, attempts smallint, losses smallint, deferrals smallint,
          delay_ms bigint, reason text, outcome text, error jsonb, receipt jsonb, condition text, job jsonb
        )
      ), ended as (
        delete from async_invocations a using e
        where a.id = e.id and a.epoch = e.epoch and a.status = 'running' and e.action = 'end'
          and (not e.adrift or a.lease_until < now())
        returning a.id, a.project_id, a.lane_id, a.kind, a.function_id, a.function_name, a.version_id, a.trigger, a.payload,
          a.context, a.epoch, a.accepted_at, a.node_id, a.started_at, a.cancel_requested_at, e.condition, e.attempts, e.losses,
          e.outcome, e.error, e.receipt, e.job
      ), dead as (
        insert into dead_letters (
          id, project_id, lane_id, kind, function_id, function_name, version_id, trigger, payload, context, condition, epoch,
          attempts, losses, outcome, error, receipt, accepted_at
        )
        select id, project_id, lane_id, kind, function_id, function_name, version_id, trigger, payload, context, condition,
          epoch, attempts, losses, outcome, error, receipt, accepted_at
        from ended where condition is not null
        on conflict (id) do nothing
      ), executed as (${executionRows(sql, records)}), ending as (
        select executed.* from executed join ended using (id)
      ), ${recordExecutions(sql, 'ending', { withBodies: haveBodies(records), isLast: true })}, back as (
        update async_invocations a set
          status = 'queued', not_before = now() + e.delay_ms * interval '1 millisecond', attempts = e.attempts,
          losses = e.losses, deferrals = e.deferrals, reason = e.reason, outcome = e.outcome, error = e.error,
          receipt = e.receipt, owner = null, lease_until = null, node_id = null, boot_id = null
        from e
        where a.id = e.id and a.epoch = e.epoch and a.status = 'running' and e.action = 'again'
          and a.cancel_requested_at is null and (not e.adrift or a.lease_until < now())
        returning a.id, a.lane_id, a.project_id, a.kind, octet_length(a.payload) as bytes, a.not_before
      ), drifted as (
        update async_invocations a set owner = null, lease_until = now()
        from e where a.id = e.id and a.epoch = e.epoch and a.status = 'running' and e.action = 'drift'
        returning a.id
      ), work as (
        select w.* from (${newWork(sql, sent)}) w
        join jsonb_to_recordset(${sql.json(senders)}) as s (id uuid, sends uuid) on s.sends = w.id
        join ended on ended.id = s.id
      ), lane_work as (
        select lane_id, project_id, count(*)::integer as queued, sum(bytes)::bigint as bytes, min(not_before) as next_due,
          bool_or(kind = 'job') as jobs
        from (
          select lane_id, project_id, kind, bytes, not_before from back
          union all select lane_id, project_id, kind, octet_length(payload), not_before from work
        ) added
        group by lane_id, project_id
      ), ${fillLanes(sql)}, ${insertQueued(sql, 'work')} ${settlements.some(({ job }) => job !== undefined) ? finishJobs(sql) : sql``}
      select (
        select jsonb_agg(id) from (select id from ended union all select id from back union all select id from drifted) w
      ) as written, ${wakeQueue(sql)} as woken`,
  );
  const written = new Set(answer?.written ?? []);
  return settlements.map(({ id }) => written.has(id));
}

/**
 * The jobs among what has `ended`. Nobody else writes to the row of a job that is in the queue, so its place stands for it:
 * that leaves a look-up by index for each job, where a join would have the planner read the whole table when it seems small.
 */
function finishJobs(sql: Sql): postgres.PendingQuery<postgres.Row[]> {
  return sql`
    , finished as (
      update jobs j set
        status = d.job ->> 'status', outcome = d.outcome, receipt = d.receipt, reason = null, finished_at = now(),
        error = case when d.job ->> 'status' <> 'cancelled' then d.error end, result = d.job ->> 'result',
        result_bytes = (d.job ->> 'resultBytes')::integer, attempts = (d.job ->> 'attempts')::smallint,
        execution_ids = case when (d.job ->> 'executed')::boolean then j.execution_ids || to_jsonb(d.id) else j.execution_ids end,
        node_id = case when (d.job ->> 'executed')::boolean then d.node_id end,
        started_at = case when (d.job ->> 'executed')::boolean then d.started_at end,
        cancel_requested_at = d.cancel_requested_at
      from (
        select ended.*, place from ended cross join lateral (
          select ctid as place from jobs where jobs.project_id = ended.project_id and jobs.id = ended.id limit 1
        ) found where job is not null
      ) d where j.ctid = d.place
    )`;
}
