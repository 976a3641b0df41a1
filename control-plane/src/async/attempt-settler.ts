import type { Logger } from '@lambda-fleet/common/logger';
import { NIL as NO_VERSION } from 'uuid';
import type { Database } from '../db/database.js';
import { GroupCommit } from '../db/group-commit.js';
import type { ExecutionError } from '../db/schema.js';
import { type StoredBody, storedBody } from '../db/stored-body.js';
import { bytesLength, type ExecutionRecord, textsLength } from '../executions/execution-rows.js';
import type { JobStatus } from '../jobs/job.js';
import { checkedEnd, type JobEnd, jobEnd } from '../jobs/job-end.js';
import type { AttemptEnd, ClaimedInvocation } from './async-invocation.js';
import type { Destinations } from './destinations.js';
import { judgeAttempt, type Verdict } from './judge-attempt.js';
import { type Settlement, settleAttempts } from './settle-attempts.js';

export interface AttemptSettlerOptions {
  readonly database: Database;
  readonly destinations: Destinations;
  /** Called after each commit that queued something. */
  readonly onQueued: (delayMs: number) => void;
  /** Called after the commit that queues again what this node did not finish. Never rejects. */
  readonly onRequeued: (nodeId: string) => Promise<void>;
  /** Called after the commit that ends a job. */
  readonly onJobEnded: (id: string, status: JobStatus) => void;
  readonly log: Logger;
}

/** What is known of an attempt besides how it ended. */
export interface AttemptMade {
  /** Undefined: no version was found to run. */
  readonly versionId: string | undefined;
  readonly versionNumber: number;
  readonly nodeId: string | undefined;
  readonly statusCode: number | undefined;
  readonly body: Buffer | undefined;
  readonly startedAtMs: number;
  readonly finishedAtMs: number;
}

export interface SettleOptions {
  /** Somebody has asked for it to be cancelled. */
  readonly cancelled?: boolean;
  /** See {@link Settlement.adrift}. */
  readonly adrift?: boolean;
}

const BATCH_BYTES_MAX = 8 * 1024 * 1024;

/** Writes what the end of an attempt means for its invocation, many in one statement. */
export class AttemptSettler {
  readonly #commit: GroupCommit<Settlement, boolean>;

  constructor(private readonly options: AttemptSettlerOptions) {
    this.#commit = new GroupCommit({
      what: 'the ends of async attempts',
      commit: (settlements) => settleAttempts(options.database, settlements),
      batchMax: 500,
      inFlightMax: 1,
      // Nobody waits for it: the place on the node is free already.
      lingerMs: 4,
      pendingMax: 20_000,
      sizeOf: sizeOf,
      batchSizeMax: BATCH_BYTES_MAX,
    });
  }

  /**
   * Resolves after the commit with what it came to; undefined when there was nothing to write, because another attempt has
   * begun or it has ended already. May be repeated after a failure.
   *
   * @throws FleetError `unavailable`
   */
  async settle(
    row: ClaimedInvocation,
    reported: AttemptEnd,
    made: AttemptMade,
    { cancelled = false, adrift = false }: SettleOptions = {},
  ): Promise<Verdict | undefined> {
    const end = row.kind === 'job' ? checkedEnd(reported, made.body) : reported;
    const verdict = judgeAttempt({ ...row, cancelled }, end);
    const settlement = await this.#settlementOf(row, verdict, end, made, adrift);
    if (await this.#commit.submit(settlement)) {
      if (verdict.kind === 'again') {
        this.options.onQueued(verdict.delayMs);
        const unfinished = end.outcome === 'outcome_unknown' || end.outcome === 'not_started';
        if (unfinished && made.nodeId !== undefined) await this.options.onRequeued(made.nodeId);
      }
      if (settlement.sends !== undefined) this.options.onQueued(0);
      this.#report(row, verdict, end, settlement.job);
      return verdict;
    }
    // What could not be queued again was cancelled, or is not this attempt's any more; this finds out which.
    if (verdict.kind === 'again' && !cancelled) return this.settle(row, end, made, { cancelled: true, adrift });
    return undefined;
  }

  async #settlementOf(
    row: ClaimedInvocation,
    verdict: Verdict,
    end: AttemptEnd,
    made: AttemptMade,
    adrift: boolean,
  ): Promise<Settlement> {
    const { id, epoch } = row;
    const { attempts, losses, deferrals } = verdict;
    const { outcome, receipt } = end;
    const error = errorOf(verdict, end);
    const base = {
      ...{ id, epoch, adrift, attempts, losses, deferrals, outcome, error, receipt, delayMs: 0, reason: null },
      ...{ condition: null, record: undefined, sends: undefined, job: undefined },
    };
    if (verdict.kind === 'wait') return { ...base, action: 'drift' };
    if (verdict.kind === 'again') {
      return { ...base, action: 'again', delayMs: verdict.delayMs, reason: verdict.reason };
    }
    const record = recordOf(row, { ...end, error }, made, attempts);
    if (row.kind === 'job') {
      // Its own row says how it ended: it is never a dead letter. One of which nothing ran leaves no execution.
      const job = jobEnd(row.attempts, verdict, end, made.body);
      return { ...base, action: 'end', job, record: job.executed ? record : undefined };
    }
    if (verdict.kind === 'cancelled') return { ...base, action: 'end', record };
    const executedVersion = made.versionId === undefined ? '$LATEST' : String(made.versionNumber);
    const sends = await this.options.destinations.sendsOf(row, verdict, end, { executedVersion, body: made.body });
    const condition = verdict.kind === 'dead' ? verdict.condition : null;
    return { ...base, action: 'end', condition, record, sends };
  }

  #report(row: ClaimedInvocation, verdict: Verdict, end: AttemptEnd, job: JobEnd | undefined): void {
    const about = { invocation: row.id, function: row.functionName, outcome: end.outcome, attempts: verdict.attempts };
    if (job !== undefined) {
      const { status } = job;
      this.options.log.info({ job: row.id, status, outcome: end.outcome, attempts: job.attempts }, 'job_finished');
      this.options.onJobEnded(row.id, status);
    } else if (verdict.kind === 'dead')
      this.options.log.warn({ ...about, condition: verdict.condition }, 'async_invocation_dead');
    else if (verdict.kind === 'again') {
      this.options.log.info({ ...about, delayMs: verdict.delayMs, reason: verdict.reason }, 'async_invocation_retried');
    }
  }
}

function errorOf(verdict: Verdict, end: AttemptEnd): ExecutionError | null {
  if (verdict.kind === 'dead') return verdict.error;
  if (verdict.kind === 'cancelled') return { errorType: 'Invocation.Cancelled', errorMessage: 'It was cancelled.' };
  return end.error;
}

function recordOf(row: ClaimedInvocation, end: AttemptEnd, made: AttemptMade, attempts: number): ExecutionRecord {
  const input = storedBody(row.payload);
  const succeeded = end.outcome === 'success' && made.body !== undefined;
  const output: StoredBody = succeeded ? storedBody(made.body) : {};
  return {
    id: row.id,
    projectId: row.projectId,
    functionId: row.functionId,
    functionName: row.functionName,
    versionId: made.versionId ?? NO_VERSION,
    versionNumber: made.versionNumber,
    trigger: row.trigger,
    epoch: row.epoch,
    outcome: end.outcome,
    statusCode: made.statusCode,
    error: end.error ?? undefined,
    receipt: end.receipt ?? {},
    nodeId: made.nodeId,
    input: input.text,
    output: output.text,
    inputBytes: input.bytes,
    outputBytes: output.bytes,
    // The version that ran may be old: the function's row is asked. A job has none.
    keepPayloads: row.kind === 'job' ? true : undefined,
    attempts,
    acceptedAtMs: row.acceptedAt.getTime(),
    startedAtMs: made.startedAtMs,
    finishedAtMs: made.finishedAtMs,
  };
}

function sizeOf({ record, sends, job }: Settlement): number {
  const recordLength = record === undefined ? 0 : textsLength(record) + bytesLength(record);
  return 1_000 + recordLength + (job?.result?.length ?? 0) + (sends?.payload.length ?? 0);
}
