import type postgres from 'postgres';
import type { Sql } from '../db/connection-target.js';
import type { Database } from '../db/database.js';
import type { ClaimedInvocation } from './async-invocation.js';

export interface ClaimOptions {
  /** The process that claims. */
  readonly owner: string;
  readonly leaseMs: number;
  /** Invocations at most. */
  readonly limit: number;
  /** How many of one lane, where that is not `perLane`: what it has in progress here counts. Lanes with 0 are passed over. */
  readonly shares: ReadonlyMap<string, number>;
  readonly perLane: number;
  /** The same of a lane of jobs, and how many jobs at most: with 0 their lanes are passed over. */
  readonly perJobLane: number;
  readonly jobsMax: number;
}

/** Lanes that are looked at by one statement. */
const LANES_MAX = 64;

/** Payloads that one statement brings, roughly: more of them would not come within its deadline. */
const CLAIM_BYTES_MAX = 16 * 1024 * 1024;

/** Before each attempt at a job after the first one. */
const JOB_RETRY_DELAYS_MS = [500, 1_000, 2_000, 4_000, 8_000];

type Fragment = postgres.PendingQuery<postgres.Row[]>;

/** The class of our advisory locks. Arbitrary, and the same in every process. */
const CLAIM_LOCK = 1_818_324_581;

/**
 * Takes queued invocations that are due, for one attempt each: queued → running, with the next epoch and a lease.
 *
 * The lanes that were served least are looked at, without those that another process is looking at; the first invocations of
 * each are read by an index, so the cost does not grow with how many wait. One lane's turn goes up by one per invocation.
 *
 * What keeps two processes from the same lane is an advisory lock and not that of its row, which is taken at the very end:
 * whoever hands invocations in needs the row, and would have to wait for all of this. An invocation that was taken a moment
 * ago is seen as queued and is not taken again, because its row is looked at once more when it is written.
 *
 * (That it is not running, and not that it is queued: the index of what is queued would be thought to be the way to it.)
 *
 * Of a function with a limit no more are taken than it may run at once: the others would only be throttled, and put off for
 * longer each time. Those of one that is switched off are taken as any, to be put off together: so they learn why they wait,
 * and get too old as they should.
 *
 * Rows that were committed after this statement began are not seen, though their lane may be: such a lane is left as due.
 */
export async function claimInvocations(
  database: Database,
  { owner, leaseMs, limit, shares, perLane, perJobLane, jobsMax }: ClaimOptions,
): Promise<readonly ClaimedInvocation[]> {
  const given = [...shares].map(([id, share]) => ({ id, share }));
  return database.run(
    'claim async invocations',
    (sql) => sql<ClaimedInvocation[]>`
      with shares as (
        select * from jsonb_to_recordset(${sql.json(given)}) as s (id uuid, share integer)
      ), ready as (
        select l.id, l.virtual_time, l.jobs, ${limitOf(sql)} as concurrency_max
        from lanes l left join functions f on f.id = l.id
        where l.next_due <= now() and (not l.jobs or ${jobsMax}::integer > 0) and not exists (select from shares where shares.id = l.id and shares.share = 0)
          and pg_try_advisory_xact_lock(${CLAIM_LOCK}::integer, hashtext(l.id::text))
        order by l.virtual_time limit ${Math.min(limit, LANES_MAX)}
      ), due as (
        select a.id, a.bytes, row_number() over (partition by r.id order by a.not_before, a.id) as turn, r.virtual_time, r.jobs
        from ready r left join shares on shares.id = r.id cross join lateral (
          select id, not_before, octet_length(payload) as bytes from async_invocations
          where lane_id = r.id and status = 'queued' and not_before <= now()
          order by not_before, id
          limit least(
            coalesce(shares.share, case when r.jobs then ${perJobLane}::integer else ${perLane}::integer end), ${limit}::integer,
            r.concurrency_max
          )
        ) a
      ), chosen as (
        select id from (
          select id, turn, virtual_time, bytes, sum(bytes) over (order by turn, virtual_time, id) as so_far
          from ${jobsMax > 0 && jobsMax < limit ? atMost(sql, jobsMax) : sql`due`}
        ) counted
        where so_far - bytes < ${CLAIM_BYTES_MAX}
        order by turn, virtual_time, id limit ${limit}
      ), taken as (
        update async_invocations a set status = 'running', epoch = a.epoch + 1, owner = ${owner}::uuid,
          lease_until = now() + ${leaseMs} * interval '1 millisecond', node_id = null, boot_id = null, started_at = null
        from chosen where a.id = chosen.id and a.status <> 'running'
        returning a.*
      ), served as (
        update lanes l set
          queued = l.queued - s.invocations, queued_bytes = l.queued_bytes - s.bytes, turned = 0,
          virtual_time = l.virtual_time + s.invocations,
          next_due = case when l.queued <= s.invocations then null else coalesce((
            select a.not_before from async_invocations a
            where a.lane_id = l.id and a.status = 'queued' and a.id not in (select id from taken)
            order by a.not_before, a.id limit 1
          ), now()) end
        from (
          select locked.id, of.invocations, of.bytes
          from lanes locked join (
            select ready.id, count(taken.id) as invocations, coalesce(sum(octet_length(taken.payload)), 0) as bytes
            from ready left join taken on taken.lane_id = ready.id group by ready.id
          ) of on of.id = locked.id
          order by locked.id for update of locked
        ) s
        where l.id = s.id
      )
      select t.id, t.project_id, t.lane_id, t.kind, t.function_id, t.function_name, t.version_id, t.trigger, t.payload,
        t.context, t.epoch, t.attempts, t.losses, t.deferrals, t.accepted_at,
        extract(epoch from t.expires_at - now())::double precision * 1000 as left_ms, ${limitOf(sql)} as concurrency_max,
        ${retrySettings(sql)}
      from taken t left join functions f on f.id = t.function_id left join lateral (${jobOf(sql, 't')}) j on true`,
  );
}

/** How often the function `f` may run at once; null where nothing says, and when it may not run at all. */
function limitOf(sql: Sql): Fragment {
  return sql`nullif(least(f.reserved_concurrency, f.maximum_concurrency), 0)`;
}

/** What is due, with no more jobs than that. */
function atMost(sql: Sql, jobs: number): Fragment {
  return sql`(
    select id, turn, virtual_time, bytes from (
      select due.*, row_number() over (partition by jobs order by turn, virtual_time, id) as place from due
    ) placed where not jobs or place <= ${jobs}::integer
  ) bounded`;
}

/** The job of a row of the queue, for a lateral join: an index look-up for each row, however few jobs there seem to be. */
export function jobOf(sql: Sql, row: string): Fragment {
  const a = sql(row);
  return sql`
    select jobs.id, jobs.retries, jobs.init_timeout_ms, jobs.timeout_ms from jobs
    where jobs.project_id = ${a}.project_id and jobs.id = ${a}.id limit 1`;
}

/** What the function `f` or the job `j` says of being tried again, and of what is sent afterwards. */
export function retrySettings(sql: Sql): Fragment {
  return sql`
    coalesce(f.async_retries, j.retries) as retries,
    coalesce(f.async_retry_delays_ms, case when j.id is not null then ${sql.json(JOB_RETRY_DELAYS_MS)} end) as retry_delays_ms,
    f.on_success, f.on_failure`;
}
