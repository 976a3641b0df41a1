import type { AsyncContext, Destination, deadLetters } from '../db/async-tables.js';
import type { ExecutionError, ExecutionReceipt } from '../db/schema.js';
import type { OutcomeName } from '../invocations/invocation.js';
import type { AsyncTrigger } from '../invocations/trigger.js';
import type { NewJob } from '../jobs/job.js';

/** What a row of the queue asks for: to run a function, to send its payload to a URL, or to run the code of a job. */
export type AsyncKind = 'function' | 'webhook' | 'job';

/** An async invocation before it is stored. */
export interface NewAsyncInvocation {
  /** UUID of version 7. */
  readonly id: string;
  readonly projectId: string;
  readonly laneId: string;
  readonly kind: AsyncKind;
  readonly functionId: string;
  readonly functionName: string;
  /** Null: the newest at the time of the attempt. */
  readonly versionId: string | null;
  readonly trigger: AsyncTrigger;
  readonly payload: Buffer;
  readonly context: AsyncContext;
  /** Milliseconds after which it is not begun any more. */
  readonly maxAgeMs: number;
  /** Of a `job`: its row in `jobs`, which is stored with it. */
  readonly job?: NewJob;
}

/** An async invocation that this process has taken to run one attempt of it. */
export interface ClaimedInvocation extends Omit<NewAsyncInvocation, 'maxAgeMs' | 'job'> {
  /** Of the attempt. */
  readonly epoch: number;
  /** What came before this one. */
  readonly attempts: number;
  readonly losses: number;
  readonly deferrals: number;
  /** Milliseconds until it is too old to be begun; negative when it is. */
  readonly leftMs: number;
  readonly acceptedAt: Date;
  /** How often its function may run at once; null is no limit of its own, or that it is switched off. */
  readonly concurrencyMax: number | null;
  /** Of its function or job; null when there is no such any more. */
  readonly retries: number | null;
  readonly retryDelaysMs: readonly number[] | null;
  readonly onSuccess: Destination | null;
  readonly onFailure: Destination | null;
}

export type DeadLetterCondition = (typeof deadLetters.$inferSelect)['condition'];

/** How an attempt ended. */
export interface AttemptEnd {
  readonly outcome: OutcomeName;
  /** Nothing of it can be running any more. */
  readonly over: boolean;
  /** It is known to be gone with its node. */
  readonly lost: boolean;
  /** There is nothing any more that could be run. */
  readonly gone?: true;
  readonly error: ExecutionError | null;
  /** The platform's words, where it has an end without an error of the code's own. */
  readonly reason: string | undefined;
  readonly receipt: ExecutionReceipt | null;
}
