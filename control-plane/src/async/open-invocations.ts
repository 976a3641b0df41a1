import type postgres from 'postgres';
import { validate as isUuid, NIL as NO_VERSION } from 'uuid';
import type { Sql } from '../db/connection-target.js';
import type { Database } from '../db/database.js';
import type { ExecutionError, ExecutionReceipt } from '../db/schema.js';
import { firstIdOf } from '../executions/execution-table.js';

/** An async invocation or a job that has not ended, as the API shows it among executions. */
export interface OpenInvocation {
  readonly id: string;
  readonly functionName: string;
  readonly trigger: string;
  readonly status: 'queued' | 'running';
  /** Of the last attempt that ended; null before. */
  readonly outcome: string | null;
  readonly error: ExecutionError | null;
  readonly receipt: ExecutionReceipt | null;
  /** Why it is queued again. */
  readonly reason: string | null;
  readonly nodeId: string | null;
  readonly attempts: number;
  readonly losses: number;
  /** When it is tried next, if it is queued. */
  readonly notBefore: Date;
  readonly expiresAt: Date;
  readonly acceptedAt: Date;
  readonly startedAt: Date | null;
  readonly cancelRequestedAt: Date | null;
}

/** How much waits, and for whom. */
export interface QueueOverview {
  readonly queued: number;
  readonly queuedBytes: number;
  readonly running: number;
  readonly deadLetters: number;
  /** Those with most queued, at most a hundred. */
  readonly functions: readonly { readonly name: string; readonly queued: number; readonly queuedBytes: number }[];
}

/** Which of them; absent is any. */
export interface OpenFilter {
  readonly functionName?: string;
  readonly trigger?: string;
  readonly status?: 'queued' | 'running';
  /** Accepted at this time or later, and before this one. */
  readonly since?: Date;
  readonly until?: Date;
  readonly beforeId?: string;
  readonly limit: number;
}

export type Cancelled = 'cancelled' | 'requested' | 'not_open';

/** What clients may see of the queue, and take out of it. */
export class OpenInvocations {
  constructor(private readonly database: Database) {}

  async find(projectId: string, id: string): Promise<OpenInvocation | undefined> {
    if (!isUuid(id)) return undefined;
    const [row] = await this.database.run(
      'find async invocation',
      (sql) => sql<OpenInvocation[]>`
        select ${columns(sql)} from async_invocations where project_id = ${projectId} and id = ${id}`,
    );
    return row;
  }

  async overview(projectId: string): Promise<QueueOverview> {
    const [row] = await this.database.run(
      'look at the queue',
      (sql) => sql<QueueOverview[]>`
        with mine as (
          select l.id, l.queued, l.queued_bytes, f.name
          from lanes l left join functions f on f.id = l.id where l.project_id = ${projectId} and l.queued > 0
        )
        select
          (select coalesce(sum(queued), 0)::bigint from mine) as queued,
          (select coalesce(sum(queued_bytes), 0)::bigint from mine) as queued_bytes,
          (select count(*) from async_invocations where project_id = ${projectId} and lease_until is not null) as running,
          (select count(*) from dead_letters where project_id = ${projectId}) as dead_letters,
          (
            select coalesce(jsonb_agg(jsonb_build_object('name', name, 'queued', queued, 'queuedBytes', queued_bytes)), '[]')
            from (select * from mine where name is not null order by queued desc, name limit 100) most
          ) as functions`,
    );
    return row ?? { queued: 0, queuedBytes: 0, running: 0, deadLetters: 0, functions: [] };
  }

  /** Newest first. */
  list(
    projectId: string,
    { functionName, trigger, status, since, until, beforeId, limit }: OpenFilter,
  ): Promise<readonly OpenInvocation[]> {
    return this.database.run(
      'list async invocations',
      (sql) => sql<OpenInvocation[]>`
        select ${columns(sql)} from async_invocations
        where project_id = ${projectId}
          ${functionName === undefined ? sql`` : sql`and function_name = ${functionName}`}
          ${trigger === undefined ? sql`` : sql`and trigger = ${trigger}`}
          ${status === undefined ? sql`` : sql`and status = ${status}`}
          ${since === undefined ? sql`` : sql`and id >= ${firstIdOf(since)}`}
          ${until === undefined ? sql`` : sql`and id < ${firstIdOf(until)}`}
          ${beforeId === undefined ? sql`` : sql`and id < ${beforeId}`}
        order by id desc limit ${limit}`,
    );
  }

  /**
   * Takes a queued one out of the queue: it ends as not started, and a job as cancelled. Of a running one it only says so:
   * whoever runs it has to be told.
   */
  async cancel(projectId: string, id: string): Promise<Cancelled> {
    if (!isUuid(id)) return 'not_open';
    const [row] = await this.database.run(
      'cancel async invocation',
      (sql) => sql<{ removed: string | null; requested: string | null }[]>`
        with removed as (
          delete from async_invocations where id = ${id} and project_id = ${projectId} and status <> 'running' returning *
        ), drained as (
          update lanes l set queued = l.queued - 1, queued_bytes = l.queued_bytes - octet_length(r.payload),
            next_due = case when l.queued > 1 then l.next_due end
          from removed r where l.id = r.lane_id
        ), recorded as (
          insert into executions (
            id, project_id, function_id, function_name, version_id, version_number, trigger, epoch, outcome, error, receipt,
            started_at, finished_at, attempts, accepted_at
          )
          select id, project_id, function_id, function_name, coalesce(version_id, ${NO_VERSION}::uuid), 0,
            trigger, epoch, 'not_started',
            jsonb_build_object('errorType', 'Invocation.Cancelled', 'errorMessage', 'It was cancelled.'),
            coalesce(receipt, '{}'), accepted_at, now(), attempts, accepted_at
          from removed r where kind <> 'job' or ${mayHaveRun(sql, 'r')}
          on conflict (id) do nothing
        ), finished as (
          update jobs j set
            status = 'cancelled', cancel_requested_at = now(), finished_at = now(), outcome = r.outcome, receipt = r.receipt,
            attempts = r.attempts,
            execution_ids = case when ${mayHaveRun(sql, 'r')} then j.execution_ids || to_jsonb(j.id) else j.execution_ids end,
            started_at = case when ${mayHaveRun(sql, 'r')} then r.started_at end
          from removed r where j.id = r.id
        ), requested as (
          update async_invocations set cancel_requested_at = coalesce(cancel_requested_at, now())
          where id = ${id} and project_id = ${projectId} and status = 'running'
          returning id
        )
        select (select id from removed) as removed, (select id from requested) as requested`,
    );
    if (row?.removed) return 'cancelled';
    return row?.requested ? 'requested' : 'not_open';
  }
}

function columns(sql: Sql) {
  return sql`
    id, function_name, trigger, status, outcome, error, receipt, reason, node_id, attempts, losses, not_before, expires_at,
    accepted_at, started_at, cancel_requested_at`;
}

/** Whether an attempt before the current one may have run some of its code. */
export function mayHaveRun(sql: Sql, row: string): postgres.PendingQuery<postgres.Row[]> {
  const a = sql(row);
  return sql`coalesce(${a}.attempts > 0 or ${a}.losses > 0 or ${a}.outcome not in ('not_started', 'throttled'), false)`;
}
