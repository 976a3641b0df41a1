import type { Logger } from '@lambda-fleet/common/logger';
import type { InvocationRef, ResponseEnd } from '@lambda-fleet/proto';
import { BatchCommitter } from '../db/batch-committer.js';
import type { Database } from '../db/database.js';
import { elapsedMs, toExecutionError, toExecutionReceipt } from '../invocations/execution-record.js';
import { OUTCOME_NAMES } from '../invocations/unclaimed-result.js';
import { areUuids } from '../nodes/agent-claims.js';
import type { AttemptEnd } from './async-invocation.js';
import type { AttemptMade, AttemptSettler } from './attempt-settler.js';
import { findRunning } from './find-running.js';

/** The agent that keeps a result until it is told that it was committed. */
export interface ResultSource {
  readonly nodeId: string;
  acknowledge(results: InvocationRef[]): void;
}

export interface LateResultsOptions {
  readonly database: Database;
  readonly settler: AttemptSettler;
  readonly log: Logger;
}

interface Late {
  readonly source: ResultSource;
  readonly end: ResponseEnd;
}

const BATCH_BYTES_MAX = 8 * 1024 * 1024;

/**
 * Results of async attempts for which nobody waits here: their link broke, or this control plane was started again. They
 * end their invocations as if somebody had waited, if the attempt is still the current one and was sent to that node.
 */
export class LateResults {
  readonly #committer: BatchCommitter<Late>;

  constructor(private readonly options: LateResultsOptions) {
    this.#committer = new BatchCommitter<Late>({
      what: 'late results of async attempts',
      commit: (batch) => this.#settle(batch),
      onCommitted: () => undefined,
      onRefused: ({ source, end }, err) => {
        options.log.error({ err, invocation: end.invocationId }, 'late_result_refused');
        source.acknowledge([refOf(end)]);
      },
      lingerMs: 5,
      // Their events are read too, and each may be a megabyte.
      batchMax: 30,
      sizeOf: ({ end }) => 1_000 + end.body.length,
      batchSizeMax: BATCH_BYTES_MAX,
      log: options.log,
    });
  }

  receive(source: ResultSource, end: ResponseEnd): void {
    if (areUuids([end.invocationId]) && OUTCOME_NAMES[end.outcome] !== undefined) this.#committer.push({ source, end });
    else source.acknowledge([refOf(end)]);
  }

  close(): Promise<void> {
    return this.#committer.close();
  }

  async #settle(batch: readonly Late[]): Promise<void> {
    const bySource = new Map<ResultSource, Late[]>();
    for (const late of batch) bySource.set(late.source, [...(bySource.get(late.source) ?? []), late]);
    for (const [source, results] of bySource) {
      const refs = results.map(({ end }) => ({ id: end.invocationId, epoch: end.epoch }));
      const running = await findRunning(this.options.database, source.nodeId, refs);
      const ends = new Map(results.map(({ end }) => [`${end.invocationId}/${end.epoch}`, end]));
      await Promise.all(
        running.map(async (row) => {
          const end = ends.get(`${row.id}/${row.epoch}`);
          if (end === undefined) return;
          await this.options.settler.settle(row, endOf(end), madeOf(source, end), { cancelled: row.cancelled });
        }),
      );
      // The others ended otherwise long ago.
      source.acknowledge(results.map(({ end }) => refOf(end)));
      this.options.log.info({ node: source.nodeId, late: results.length, settled: running.length }, 'late_results');
    }
  }
}

function endOf(end: ResponseEnd): AttemptEnd {
  const error = toExecutionError(end) ?? null;
  return {
    outcome: OUTCOME_NAMES[end.outcome] ?? 'outcome_unknown',
    over: true,
    lost: false,
    error,
    reason: error?.errorMessage,
    receipt: toExecutionReceipt(end.receipt, end.memoryMb, undefined),
  };
}

function madeOf(source: ResultSource, end: ResponseEnd): AttemptMade {
  const known = areUuids([end.versionId]);
  const finishedAtMs = Date.now();
  return {
    versionId: known ? end.versionId : undefined,
    versionNumber: known ? end.versionNumber | 0 : 0,
    nodeId: source.nodeId,
    statusCode: end.http?.statusCode,
    // One that travelled in chunks was lost with its caller.
    body: end.bodyStreamed ? undefined : (end.body as Buffer),
    startedAtMs: finishedAtMs - elapsedMs(end.receipt),
    finishedAtMs,
  };
}

function refOf({ invocationId, epoch }: ResponseEnd): InvocationRef {
  return { invocationId, epoch };
}
