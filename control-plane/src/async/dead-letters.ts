import { FleetError } from '@lambda-fleet/common/errors';
import type postgres from 'postgres';
import { validate as isUuid, v7 as uuidv7 } from 'uuid';
import type { Sql } from '../db/connection-target.js';
import type { Database } from '../db/database.js';
import type { ExecutionError, ExecutionReceipt } from '../db/schema.js';
import type { DeadLetterCondition } from './async-invocation.js';
import { enqueue, type QueueLimits, wakeQueue } from './enqueue.js';

/** An async invocation that was given up, as lists show it. */
export interface DeadLetter {
  readonly id: string;
  readonly functionName: string;
  readonly trigger: string;
  readonly kind: 'function' | 'webhook';
  readonly condition: DeadLetterCondition;
  readonly attempts: number;
  readonly losses: number;
  readonly outcome: string;
  readonly error: ExecutionError | null;
  readonly payloadBytes: number;
  readonly acceptedAt: Date;
  readonly diedAt: Date;
}

export interface DeadLetterDetail extends DeadLetter {
  readonly payload: Buffer;
  readonly receipt: ExecutionReceipt | null;
}

/** Which ones; absent is any. */
export interface DeadLetterFilter {
  readonly functionName?: string;
  readonly condition?: DeadLetterCondition;
  readonly id?: string;
}

/** Rows of one statement: each may hold a megabyte. */
const BATCH = 200;

type Fragment = postgres.PendingQuery<postgres.Row[]>;

/** Async invocations that were given up: look at them, run them again, or throw them away. */
export class DeadLetters {
  constructor(
    private readonly database: Database,
    private readonly limits: QueueLimits,
    private readonly onQueued: () => void,
  ) {}

  /** Newest first. */
  list(projectId: string, filter: DeadLetterFilter, beforeId: string | undefined, limit: number) {
    return this.database.run(
      'list dead letters',
      (sql) => sql<DeadLetter[]>`
        select ${columns(sql)} from dead_letters d
        where ${where(sql, projectId, filter)} ${beforeId === undefined ? sql`` : sql`and d.id < ${beforeId}`}
        order by d.id desc limit ${limit}`,
    );
  }

  /** @throws FleetError `dead_letter_not_found` */
  async get(projectId: string, id: string): Promise<DeadLetterDetail> {
    const [row] = isUuid(id)
      ? await this.database.run(
          'get dead letter',
          (sql) => sql<DeadLetterDetail[]>`
            select ${columns(sql)}, d.payload, d.receipt from dead_letters d where ${where(sql, projectId, { id })}`,
        )
      : [];
    return row ?? notFound();
  }

  /**
   * Queues them again, each as a new invocation with all its attempts before it, and takes them out of the dead letters in
   * the same moment. Returns the ids of the new ones, by the old ones. Ends early when a lane is full: the rest stay.
   *
   * @throws FleetError `throttled` when none could be queued because of that
   */
  async redrive(projectId: string, filter: DeadLetterFilter): Promise<ReadonlyMap<string, string>> {
    const redriven = new Map<string, string>();
    for (let afterId: string | undefined; ; ) {
      const ids = await this.#idsOf(projectId, filter, afterId);
      const accepted = new Set(ids.length === 0 ? [] : await this.#redriveThese(projectId, ids));
      for (const { id, newId } of ids) if (accepted.has(newId)) redriven.set(id, newId);
      afterId = ids.at(-1)?.id;
      if (ids.length > 0 && redriven.size === 0 && accepted.size === 0) {
        throw new FleetError('throttled', 'The queue is full. Send these again when some of it has run.', {
          retryAfterSeconds: 5,
        });
      }
      if (ids.length < BATCH || accepted.size < ids.length) break;
    }
    if (redriven.size > 0) this.onQueued();
    return redriven;
  }

  /** Removes them for good. Returns how many. */
  async purge(projectId: string, filter: DeadLetterFilter): Promise<number> {
    let purged = 0;
    for (;;) {
      const rows = await this.database.run(
        'purge dead letters',
        (sql) => sql`
          delete from dead_letters where id in (
            select d.id from dead_letters d where ${where(sql, projectId, filter)} order by d.id limit ${BATCH}
          ) returning id`,
      );
      purged += rows.length;
      if (rows.length < BATCH) return purged;
    }
  }

  async #idsOf(projectId: string, filter: DeadLetterFilter, afterId: string | undefined) {
    const rows = await this.database.run(
      'find dead letters',
      (sql) => sql<{ id: string }[]>`
        select d.id from dead_letters d
        where ${where(sql, projectId, filter)} ${afterId === undefined ? sql`` : sql`and d.id > ${afterId}`}
        order by d.id limit ${BATCH}`,
    );
    return rows.map(({ id }) => ({ id, newId: uuidv7() }));
  }

  /** One that somebody else takes at the same moment is left to them. Returns the new ids. */
  async #redriveThese(projectId: string, ids: readonly { id: string; newId: string }[]): Promise<readonly string[]> {
    const rows = ids.map(({ id, newId }) => ({ id, new_id: newId }));
    const [answer] = await this.database.run(
      'redrive dead letters',
      (sql) => sql<{ accepted: string[] | null }[]>`
        with wanted as (
          select d.*, ids.new_id, coalesce(f.async_max_age_ms, 21600000) as max_age_ms
          from dead_letters d
          join jsonb_to_recordset(${sql.json(rows)}) as ids (id uuid, new_id uuid) on ids.id = d.id
          left join functions f on f.id = d.function_id
          where d.project_id = ${projectId} for update of d skip locked
        ), work as (
          select new_id as id, project_id, lane_id, kind, function_id, function_name, version_id, trigger, payload,
            context || jsonb_build_object('sourceId', id) as context,
            now() as not_before, now() + max_age_ms * interval '1 millisecond' as expires_at
          from wanted
        ), ${enqueue(sql, 'work', this.limits)}, removed as (
          delete from dead_letters d using wanted, accepted where accepted.id = wanted.new_id and d.id = wanted.id
        )
        select (select jsonb_agg(id) from accepted) as accepted, ${wakeQueue(sql)} as woken`,
    );
    return answer?.accepted ?? [];
  }
}

function where(sql: Sql, projectId: string, { functionName, condition, id }: DeadLetterFilter): Fragment {
  return sql`
    d.project_id = ${projectId}
    ${functionName === undefined ? sql`` : sql`and d.function_name = ${functionName}`}
    ${condition === undefined ? sql`` : sql`and d.condition = ${condition}`}
    ${id === undefined ? sql`` : sql`and d.id = ${id}`}`;
}

function columns(sql: Sql): Fragment {
  return sql`
    d.id, d.function_name, d.trigger, d.kind, d.condition, d.attempts, d.losses, d.outcome, d.error,
    octet_length(d.payload) as payload_bytes, d.accepted_at, d.died_at`;
}

function notFound(): never {
  throw new FleetError(
    'dead_letter_not_found',
    'There is no dead letter with this id in this project. `lambda queue ls` lists them; those that were run again or purged are gone.',
  );
}
