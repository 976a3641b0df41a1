import type { Database } from '../db/database.js';
import type { KeyClaim } from '../idempotency/idempotency-key.js';
import { claimKeys, usedKey, wantedKeys } from '../idempotency/key-statements.js';
import { insertJob, type QueueLimits, roomFor } from './insert-job.js';
import type { NewJob } from './job.js';

/** `job`: the one that the key stands for, new or not. `again`: the key is being taken. */
export type StoredJob =
  | { readonly kind: 'full' }
  | { readonly kind: 'again' }
  | { readonly kind: 'job'; readonly invocationId: string; readonly requestHash: string; readonly createdAt: Date };

interface Row {
  readonly roomy: boolean;
  /** Of the new job. */
  readonly storedAt: Date | null;
  /** Of the request that had the key before. */
  readonly requestHash: string | null;
  readonly invocationId: string | null;
  readonly createdAt: Date | null;
}

/** Stores a job and its key in one statement: both or neither. */
export async function storeKeyedJob(
  database: Database,
  limits: QueueLimits,
  job: NewJob,
  claim: KeyClaim,
): Promise<StoredJob> {
  const [row] = await database.run(
    'store job with key',
    (sql) => sql<Row[]>`
      with wanted as (${wantedKeys(sql, [claim])}), room as (${roomFor(sql, job, limits)}),
      ${claimKeys(sql, sql`(select wanted.* from wanted, room) roomy_wanted`, 202)},
      stored as (${insertJob(sql, job, 'claimed')} returning created_at)
      select exists (select from room) as roomy, (select created_at from stored) as stored_at,
        used.request_hash, used.invocation_id, used.created_at
      from wanted w left join lateral (${usedKey(sql)}) used on true`,
  );
  if (row === undefined) return { kind: 'again' };
  const { roomy, storedAt, requestHash, invocationId, createdAt } = row;
  if (storedAt !== null) {
    return { kind: 'job', invocationId: job.id, requestHash: claim.requestHash, createdAt: storedAt };
  }
  if (invocationId !== null && requestHash !== null && createdAt !== null) {
    return { kind: 'job', invocationId, requestHash, createdAt };
  }
  return roomy ? { kind: 'again' } : { kind: 'full' };
}
