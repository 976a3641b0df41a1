import postgres from 'postgres';
import type { Database } from '../db/database.js';
import { firstOfEachKey, keyOf } from '../idempotency/claim-keys.js';
import type { KeyClaim } from '../idempotency/idempotency-key.js';
import { claimKeys, usedKey, wantedKeys } from '../idempotency/key-statements.js';
import type { NewAsyncInvocation } from './async-invocation.js';
import { describeJobs } from './describe-jobs.js';
import { enqueue, type QueueLimits, wakeQueue } from './enqueue.js';
import { newWork } from './new-work.js';

export interface KeyedInvocation {
  readonly invocation: NewAsyncInvocation;
  /** Of a request with an Idempotency-Key. */
  readonly claim: KeyClaim | undefined;
}

/** `full`: its lane has as many as it may. `used`: its key stands for another request. `again`: it is being taken. */
export type Stored =
  | { readonly kind: 'stored' }
  | { readonly kind: 'full' }
  | { readonly kind: 'again' }
  | { readonly kind: 'used'; readonly requestHash: string; readonly invocationId: string };

type UsedRow = { readonly asked: string; readonly requestHash: string; readonly invocationId: string };

interface Answer {
  readonly accepted: readonly string[] | null;
  readonly full: readonly string[] | null;
  readonly used: readonly UsedRow[] | null;
}

const DIVISION_BY_ZERO = '22012';

/**
 * Stores invocations, some of which have keys, with their keys in one statement: keys are taken first, and of the
 * invocations with a key only those are queued whose key was free.
 *
 * A key must not stay behind when its invocation is not queued, and a row that a statement has written it cannot remove.
 * So keys are not taken for lanes that this statement sees to be full; and when a lane has become full since, the whole
 * statement fails, as data of which not all can be written. Whoever submitted it halves it then.
 *
 * @throws postgres.PostgresError of class 22 in that case
 */
export async function storeKeyedInvocations(
  database: Database,
  limits: QueueLimits,
  entries: readonly KeyedInvocation[],
): Promise<readonly Stored[]> {
  const firsts = firstOfEachKey(entries.flatMap(({ claim }) => claim ?? []));
  const isFirst = ({ claim }: KeyedInvocation): boolean => claim === undefined || firsts.get(keyOf(claim)) === claim;
  const answer = await store(database, limits, entries.filter(isFirst), [...firsts.values()]).catch((err: unknown) => {
    const full = err instanceof postgres.PostgresError && err.code === DIVISION_BY_ZERO;
    if (full && entries.length === 1) return undefined;
    throw err;
  });
  if (answer === undefined) return [{ kind: 'full' }];
  const accepted = new Set(answer.accepted);
  const full = new Set(answer.full);
  const used = new Map(answer.used?.map((row) => [row.asked, row]));
  const endOf = (id: string): Stored => {
    const row = used.get(id);
    if (accepted.has(id)) return { kind: 'stored' };
    if (row !== undefined) return { kind: 'used', requestHash: row.requestHash, invocationId: row.invocationId };
    return full.has(id) ? { kind: 'full' } : { kind: 'again' };
  };
  return entries.map((entry) => {
    const { id } = entry.invocation;
    if (entry.claim === undefined) return accepted.has(id) ? { kind: 'stored' } : { kind: 'full' };
    if (isFirst(entry)) return endOf(id);
    // Several requests with one key: they are answered as they would have been one after the other.
    const { requestHash, invocationId } = firsts.get(keyOf(entry.claim)) ?? entry.claim;
    const end = endOf(invocationId);
    return end.kind === 'stored' ? { kind: 'used', requestHash, invocationId } : end;
  });
}

async function store(
  database: Database,
  limits: QueueLimits,
  entries: readonly KeyedInvocation[],
  claims: readonly KeyClaim[],
): Promise<Answer | undefined> {
  const { queuedMax, queuedBytesMax } = limits;
  const invocations = entries.map(({ invocation }) => invocation);
  const [answer] = await database.run(
    'store async invocations with keys',
    (sql) => sql<Answer[]>`
      with wanted as (${wantedKeys(sql, claims)}), offered as (${newWork(sql, invocations)}),
      used as (
        select w.invocation_id as asked, used.* from wanted w cross join lateral (${usedKey(sql)}) used
      ), roomy as (
        select o.lane_id from offered o left join lanes l on l.id = o.lane_id
        where o.id not in (select asked from used)
        group by o.lane_id, l.queued, l.queued_bytes
        having coalesce(l.queued, 0) + count(*) <= ${queuedMax}::integer
          and coalesce(l.queued_bytes, 0) + sum(octet_length(o.payload)) <= ${queuedBytesMax}::bigint
      ), ${claimKeys(
        sql,
        sql`(
          select w.* from wanted w join offered o on o.id = w.invocation_id where o.lane_id in (select lane_id from roomy)
        ) roomy_wanted`,
        202,
      )}, work as (
        select * from offered o
        where o.id in (select invocation_id from claimed) or o.id not in (select invocation_id from wanted)
      ), ${enqueue(sql, 'work', limits)} ${describeJobs(sql, invocations)}
      select (select jsonb_agg(id) from accepted) as accepted,
        (select jsonb_agg(o.id) from offered o where o.lane_id not in (select lane_id from roomy)) as full,
        (
          select jsonb_agg(jsonb_build_object(
            'asked', asked, 'requestHash', request_hash, 'invocationId', invocation_id
          )) from used
        ) as used,
        1 / (
          case when exists (select from claimed where invocation_id not in (select id from accepted)) then 0 else 1 end
        ) as whole,
        ${wakeQueue(sql)} as woken`,
  );
  return answer;
}
