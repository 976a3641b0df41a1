import type { Database } from '../db/database.js';
import type { NewAsyncInvocation } from './async-invocation.js';
import { describeJobs } from './describe-jobs.js';
import { enqueue, type QueueLimits, wakeQueue } from './enqueue.js';
import { newWork } from './new-work.js';

/** Stores async invocations in one statement. For each: whether it was taken, or its lane has as many as it may. */
export async function storeInvocations(
  database: Database,
  limits: QueueLimits,
  invocations: readonly NewAsyncInvocation[],
): Promise<readonly boolean[]> {
  const [answer] = await database.run(
    'store async invocations',
    (sql) => sql<{ accepted: string[] | null }[]>`
      with work as (${newWork(sql, invocations)}), ${enqueue(sql, 'work', limits)}
      ${describeJobs(sql, invocations)}
      select (select jsonb_agg(id) from accepted) as accepted, ${wakeQueue(sql)} as woken`,
  );
  const accepted = new Set(answer?.accepted ?? []);
  return invocations.map(({ id }) => accepted.has(id));
}
