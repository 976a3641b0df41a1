import type { ResponseEnd } from '@lambda-fleet/proto';
import { Outcome } from '@lambda-fleet/proto';
import { storableText } from '../db/storable-text.js';
import { storedBody } from '../db/stored-body.js';
import type { ExecutionRecord } from '../executions/execution-rows.js';
import { areUuids, isPlausibleTime } from '../nodes/agent-claims.js';
import type { NodeSession } from '../nodes/node-session.js';
import { elapsedMs, toExecutionError, toExecutionReceipt } from './execution-record.js';
import type { OutcomeName } from './invocation.js';
import type { Journal } from './journal.js';
import { leavesNoExecution } from './trigger.js';

export const OUTCOME_NAMES: Readonly<Record<number, OutcomeName>> = {
  [Outcome.SUCCESS]: 'success',
  [Outcome.FUNCTION_ERROR]: 'function_error',
  [Outcome.TIMEOUT]: 'timeout',
  [Outcome.NOT_STARTED]: 'not_started',
  [Outcome.UNKNOWN]: 'outcome_unknown',
};

/**
 * Records a result for which no caller waits here: the link broke or this control
 * plane was started again after the invocation was sent. Its caller has had its
 * answer; what is left is the record, and the agent's copy to release.
 */
export function recordUnclaimedResult(journal: Journal, session: NodeSession, end: ResponseEnd): void {
  const outcome = OUTCOME_NAMES[end.outcome];
  const wellFormed =
    areUuids([end.invocationId, end.functionId, end.versionId]) && isPlausibleTime(end.startedAtUnixMs);
  if (!wellFormed || outcome === undefined || leavesNoExecution(end.trigger)) {
    session.acknowledge([{ invocationId: end.invocationId, epoch: end.epoch }]);
    return;
  }
  const { receipt } = end;
  // A body that was streamed is not repeated.
  const kept = outcome === 'success' && !end.bodyStreamed;
  const output = kept ? storedBody(end.body as Buffer) : {};
  const record: ExecutionRecord = {
    id: end.invocationId,
    projectId: end.projectId,
    functionId: end.functionId,
    functionName: storableText(end.functionName),
    versionId: end.versionId,
    versionNumber: end.versionNumber,
    trigger: storableText(end.trigger),
    epoch: end.epoch,
    outcome,
    statusCode: end.http?.statusCode,
    error: toExecutionError(end),
    receipt: toExecutionReceipt(receipt, end.memoryMb, undefined),
    nodeId: session.nodeId,
    input: undefined,
    output: output.text,
    outputBytes: output.bytes,
    keepPayloads: undefined,
    startedAtMs: end.startedAtUnixMs,
    finishedAtMs: end.startedAtUnixMs + elapsedMs(receipt),
  };
  journal.append(record, session);
}
