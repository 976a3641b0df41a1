import type { Logger } from '@lambda-fleet/common/logger';
import type { Database } from '../db/database.js';
import type { InvocationResult } from '../invocations/invocation.js';
import type { Trigger } from '../invocations/trigger.js';
import { addFigures } from './add-figures.js';
import { binned, SUMMED } from './execution-figures.js';

const INTERVAL_MS = 3_000;

interface Throttled {
  readonly projectId: string;
  readonly functionId: string;
  readonly functionName: string;
  readonly count: number;
}

/**
 * Counts the calls that were turned away, which leave no execution, and adds them to the figures of the minute in which it
 * does so. A process that is killed loses the last three seconds of them. An answer of the database that is lost may count
 * some twice: it is a number to watch, and no promise depends on it.
 */
export class ThrottleCounter {
  readonly #timer: NodeJS.Timeout;
  #waiting = new Map<string, Throttled>();
  #flushing: Promise<void> | undefined;

  constructor(
    private readonly database: Database,
    private readonly log: Logger,
  ) {
    this.#timer = setInterval(() => void this.flush(), INTERVAL_MS);
    this.#timer.unref();
  }

  readonly observe = ({ outcome, version }: InvocationResult, trigger: Trigger): void => {
    if (outcome !== 'throttled' || trigger === 'test' || trigger === 'deploy' || trigger === 'job') return;
    const { projectId, functionId, functionName } = version.spec;
    this.#add({ projectId, functionId, functionName, count: 1 });
  };

  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#flushing;
    await this.flush();
  }

  /** Never rejects: what could not be written is written with what comes next. */
  flush(): Promise<void> {
    this.#flushing ??= this.#write().finally(() => {
      this.#flushing = undefined;
    });
    return this.#flushing;
  }

  #add(throttled: Throttled): void {
    const before = this.#waiting.get(throttled.functionId)?.count ?? 0;
    this.#waiting.set(throttled.functionId, { ...throttled, count: before + throttled.count });
  }

  async #write(): Promise<void> {
    if (this.#waiting.size === 0) return;
    const batch = [...this.#waiting.values()];
    this.#waiting = new Map();
    try {
      await addThrottles(this.database, batch);
    } catch (err) {
      for (const throttled of batch) this.#add(throttled);
      this.log.warn({ err, functions: batch.length }, 'throttles_not_counted');
    }
  }
}

async function addThrottles(database: Database, batch: readonly Throttled[]): Promise<void> {
  const zeros = SUMMED.filter((name) => name !== 'throttles').map((name) => `0::bigint as ${name}`);
  await database.run(
    'count throttles',
    (sql) => sql`
      with counted as (
        select ${binned(sql, 60, sql`now()`)} as minute, "projectId" as project_id, "functionId" as function_id,
          "functionName" as function_name, count as throttles, ${sql.unsafe(zeros.join(', '))}, 0::bigint as memory_peak_bytes
        from jsonb_to_recordset(${sql.json(batch.map((throttled) => ({ ...throttled })))})
          as r ("projectId" text, "functionId" uuid, "functionName" text, count bigint)
      ), bucketed as (
        select minute, project_id, function_id, '' as kind, 0 as bucket, 0::bigint as n from counted where false
      ), ${addFigures(sql)}
      select`,
  );
}
