import type { RuntimeName } from '@lambda-fleet/common/runtime-names';
import type { Sql } from '../db/connection-target.js';
import type { Database } from '../db/database.js';
import type { ExecutionError, ExecutionReceipt } from '../db/schema.js';
import type { OutcomeName, SentTo } from '../invocations/invocation.js';
import { ARGS_KEPT_BYTES_MAX, type JobStatus } from './job.js';

/** A job that somebody in this process works on. */
export interface HeldJob {
  readonly id: string;
  readonly projectId: string;
}

/** What running a job needs. */
export interface RunnableJob extends HeldJob {
  readonly runtime: RuntimeName;
  readonly memoryMb: number;
  readonly timeoutMs: number;
  readonly code: string;
  readonly args: string;
  readonly retries: number;
  /** Those before this one. */
  readonly attempts: number;
  readonly ageMs: number;
}

/** How the last attempt ended, as a row keeps it. */
export interface AttemptRecord {
  readonly outcome: OutcomeName;
  readonly error: ExecutionError | null;
  readonly receipt: ExecutionReceipt | null;
}

export interface JobEnding extends AttemptRecord {
  readonly status: Extract<JobStatus, 'succeeded' | 'failed' | 'timed_out' | 'cancelled'>;
  readonly result: string | null;
  readonly resultBytes: number | null;
}

/** A job that is marked as running and that nobody here works on, with what its execution says of it if there is one. */
export interface OrphanedJob extends HeldJob {
  readonly invocationId: string;
  readonly nodeId: string;
  readonly bootId: string;
  readonly retries: number;
  /** With the one that is in doubt. */
  readonly attempts: number;
  readonly ageMs: number;
  readonly cancelRequested: boolean;
  /** Its budgets and then some have passed. */
  readonly overdue: boolean;
  readonly outcome: OutcomeName | null;
  readonly error: ExecutionError | null;
  readonly receipt: ExecutionReceipt | null;
  readonly output: string | null;
}

/** For the way to the node and back, and for an agent that has to connect again. */
const OVERDUE_AFTER_MS = 30_000;

const ORPHANS_MAX = 200;

/**
 * The states of jobs while they are run. Each change is one statement that names the states it may start from, so that
 * a cancellation, an earlier attempt's late end or a write that is repeated in doubt finds nothing to change.
 */
export class JobProgress {
  constructor(private readonly database: Database) {}

  /**
   * Queued jobs whose time has come, at most `limit`. Projects take turns, counting what they have in `held` already and
   * going on after `lastProject`; within one the oldest is first.
   */
  due(held: readonly HeldJob[], limit: number, lastProject: string): Promise<readonly HeldJob[]> {
    return this.database.run(
      'find due jobs',
      (sql) => sql<HeldJob[]>`
        with held as (
          select id, project_id from jsonb_to_recordset(${sql.json(held.map(heldRow))}) as h (id uuid, project_id text)
        ), busy as (select project_id, count(*) as jobs from held group by project_id)
        select id, project_id from (
          select j.id, j.project_id, coalesce(busy.jobs, 0) + row_number() over (partition by j.project_id order by j.id) as turn
          from jobs j left join busy on busy.project_id = j.project_id
          where j.finished_at is null and j.status = 'queued' and j.not_before <= now()
            and not exists (select from held where held.id = j.id)
        ) waiting
        order by turn, project_id <= ${lastProject}, project_id limit ${limit}`,
    );
  }

  /** Undefined when it is not queued any more. */
  async load(id: string): Promise<RunnableJob | undefined> {
    const [row] = await this.database.run(
      'load job',
      (sql) => sql<RunnableJob[]>`
        select id, project_id, runtime, memory_mb, timeout_ms, code, args, retries, attempts,
          extract(epoch from now() - created_at)::double precision * 1000 as age_ms
        from jobs where id = ${id} and status = 'queued'`,
    );
    return row;
  }

  /** queued → running, before `invocationId` is sent; also from one node to the next. False: it was cancelled. */
  async begin(id: string, invocationId: string, { nodeId, bootId }: SentTo): Promise<boolean> {
    const rows = await this.database.run(
      'begin job',
      (sql) => sql`
        update jobs set status = 'running', started_at = now(), reason = null, node_id = ${nodeId}, boot_id = ${bootId},
          attempts = attempts + (case status when 'queued' then 1 else 0 end),
          execution_ids = case status when 'queued' then execution_ids || to_jsonb(${invocationId}::text) else execution_ids end
        where id = ${id} and cancel_requested_at is null
          and (status = 'queued' or (status = 'running' and execution_ids ->> -1 = ${invocationId}))
        returning id`,
    );
    return rows.length === 1;
  }

  /** running → queued after an attempt, to be tried again. False: it was cancelled, or is not this attempt's any more. */
  async putBack(
    id: string,
    invocationId: string,
    { outcome, error, receipt }: AttemptRecord,
    { delayMs, reason }: { readonly delayMs: number; readonly reason: string },
  ): Promise<boolean> {
    const rows = await this.database.run(
      'put job back',
      (sql) => sql`
        update jobs set status = 'queued', not_before = now() + ${delayMs} * interval '1 millisecond', reason = ${reason},
          outcome = ${outcome}, error = ${jsonOrNull(sql, error)}::jsonb, receipt = ${jsonOrNull(sql, receipt)}::jsonb
        where id = ${id} and cancel_requested_at is null and status in ('running', 'queued')
          and execution_ids ->> -1 = ${invocationId}
        returning id`,
    );
    return rows.length === 1;
  }

  /** Stays or becomes queued, as if `invocationId`, which nothing began, had never been. False: it was cancelled. */
  async defer(
    id: string,
    invocationId: string,
    { delayMs, reason }: { readonly delayMs: number; readonly reason: string },
  ): Promise<boolean> {
    const rows = await this.database.run(
      'defer job',
      (sql) => sql`
        update jobs set status = 'queued', not_before = now() + ${delayMs} * interval '1 millisecond', reason = ${reason},
          attempts = attempts - (case status when 'running' then 1 else 0 end),
          execution_ids = case status when 'running' then execution_ids - -1 else execution_ids end,
          started_at = case when attempts > (case status when 'running' then 1 else 0 end) then started_at end,
          node_id = null, boot_id = null
        where id = ${id} and cancel_requested_at is null
          and (status = 'queued' or (status = 'running' and execution_ids ->> -1 = ${invocationId}))
        returning id`,
    );
    return rows.length === 1;
  }

  /**
   * The job's end: from running by the end of its current attempt `invocationId`, or from queued because it could not
   * start. What was to be cancelled ends as cancelled, unless it succeeded. Undefined: it has ended already.
   */
  async finish(id: string, invocationId: string, ending: JobEnding): Promise<JobStatus | undefined> {
    const { status, outcome, error, receipt, result, resultBytes } = ending;
    const [row] = await this.database.run('finish job', (sql) => {
      const cancelled = sql`(cancel_requested_at is not null and ${status}::text <> 'succeeded')`;
      return sql<{ status: JobStatus }[]>`
        update jobs set
          status = case when ${cancelled} then 'cancelled' else ${status}::text end,
          error = case when ${cancelled} then null else ${jsonOrNull(sql, error)}::jsonb end,
          outcome = ${outcome}, receipt = ${jsonOrNull(sql, receipt)}::jsonb, result = ${result},
          result_bytes = ${resultBytes}::integer, reason = null, finished_at = now(),
          args = case when args_bytes > ${ARGS_KEPT_BYTES_MAX} then null else args end
        where id = ${id} and (
          (status = 'queued' and ${outcome}::text = 'not_started')
          or (status = 'running' and execution_ids ->> -1 = ${invocationId})
        )
        returning status`;
    });
    return row?.status;
  }

  /** Running jobs that are not in `held`. */
  orphans(held: readonly HeldJob[]): Promise<readonly OrphanedJob[]> {
    return this.database.run(
      'find orphaned jobs',
      (sql) => sql<OrphanedJob[]>`
        select j.id, j.project_id, j.execution_ids ->> -1 as invocation_id, j.node_id, j.boot_id, j.retries, j.attempts,
          extract(epoch from now() - j.created_at)::double precision * 1000 as age_ms,
          j.cancel_requested_at is not null as cancel_requested,
          now() > j.started_at + (j.init_timeout_ms + j.timeout_ms + ${OVERDUE_AFTER_MS}::integer) * interval '1 millisecond' as overdue,
          e.outcome, e.error, e.receipt, e.output
        from jobs j
        -- Only the node that was given the attempt may say how it ended.
        left join executions e
          on e.id = (j.execution_ids ->> -1)::uuid and e.project_id = j.project_id and e.node_id = j.node_id
        where j.finished_at is null and j.status = 'running'
          and j.id <> all (select h::uuid from jsonb_array_elements_text(${sql.json(held.map(({ id }) => id))}) h)
        order by j.id limit ${ORPHANS_MAX}`,
    );
  }
}

function heldRow({ id, projectId }: HeldJob) {
  return { id, project_id: projectId };
}

function jsonOrNull(sql: Sql, value: ExecutionError | ExecutionReceipt | null) {
  return value === null ? null : sql.json({ ...value } as never);
}
