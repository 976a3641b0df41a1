import { setTimeout as sleep } from 'node:timers/promises';
import { crashPoint } from '@lambda-fleet/common/crash-points';
import { imageLoadMs } from '@lambda-fleet/common/image-load';
import type { Logger } from '@lambda-fleet/common/logger';
import type { InvocationRef, ResponseEnd, VersionSpec } from '@lambda-fleet/proto';
import { RefusalReason } from '@lambda-fleet/proto';
import type { ConcurrencyLimiter } from '../admission/concurrency-limiter.js';
import { type StoredBody, storedBody } from '../db/stored-body.js';
import type { ResolvedVersion } from '../functions/resolved-version.js';
import type { DispatchAnswer } from '../nodes/dispatch.js';
import type { NodeRegistry } from '../nodes/node-registry.js';
import type { NodeSession } from '../nodes/node-session.js';
import type { Demand } from '../scheduling/cluster-view.js';
import type { Placed, Placement, PlacementFailure } from '../scheduling/placement.js';
import { type ControlPlanePhases, toExecutionError, toExecutionReceipt } from './execution-record.js';
import type { InvocationRequest, InvocationResult, Invoke, OutcomeName } from './invocation.js';
import type { Journal } from './journal.js';
import { placementFailed, type Refusal, TOO_MANY_IN_PROGRESS } from './refusals.js';
import { leavesNoExecution } from './trigger.js';
import { OUTCOME_NAMES } from './unclaimed-result.js';

export interface InvokeOptions {
  readonly limiter: ConcurrencyLimiter;
  readonly placement: Placement;
  readonly registry: NodeRegistry;
  readonly journal: Journal;
  /** How long an invocation may wait for a node in all, milliseconds. */
  readonly queueBudgetMs: number;
  readonly onResult: (result: InvocationResult, request: InvocationRequest) => void;
  readonly log: Logger;
}

/** What the only attempt of an invocation carries that is not queued. */
const FIRST_EPOCH = 1;

/**
 * Pause after a node refused an invocation that had already waited for room. What
 * the ledger takes for room is then still held by sandboxes that are stopping, and
 * asking again at every release would only repeat the question.
 */
const REFUSAL_PAUSE_MS = 50;

/** Beyond its budgets an invocation gets this long for the way there and back before its node is given up. */
const ANSWER_GRACE_MS = 10_000;

const EMPTY = Buffer.alloc(0);
const BYTES_PER_MB = 1024 * 1024;

/** What was found out about an invocation, before it is turned into the caller's result. */
interface Conclusion {
  readonly outcome: OutcomeName;
  readonly reason?: string;
  readonly refusal?: Refusal;
  readonly end?: ResponseEnd;
  readonly body?: Buffer;
  readonly session?: NodeSession;
}

/**
 * Runs one sync invocation: ADMIT, PLACE, DISPATCH, RETURN. (RESOLVE came before.)
 *
 * At most once: it is placed again only when the agent attests that it never
 * started, or when nothing was sent. The database is not awaited anywhere here.
 */
export function createInvoke(options: InvokeOptions): Invoke {
  const { limiter } = options;
  return async (version, request) => {
    const { arrivedAt, resolveMs, receiveMs } = request;
    const phases = { resolveMs, receiveMs, admitMs: 0, placeMs: 0, totalMs: 0 };
    const share = version.limits.reserved ? 'reserved' : 'shared';
    if (!limiter.tryAcquire(share)) return conclude(options, version, request, phases, TOO_MANY_IN_PROGRESS);
    try {
      phases.admitMs = performance.now() - arrivedAt - resolveMs - receiveMs;
      const conclusion = await placeAndDispatch(options, version, request, phases);
      return conclude(options, version, request, phases, conclusion);
    } finally {
      limiter.release(share);
    }
  };
}

async function placeAndDispatch(
  { placement, registry, queueBudgetMs }: InvokeOptions,
  version: ResolvedVersion,
  request: InvocationRequest,
  phases: { placeMs: number },
): Promise<Conclusion> {
  const { spec } = version;
  const demand = demandOf(version, request.attempt?.alone === true);
  // A function that is at its limit, or switched off, can still be replaced by code that was checked.
  const limits = request.trigger === 'deploy' ? undefined : version.limits;
  const deadlineMs = answerDeadlineMs(spec, queueBudgetMs);
  const placingSince = performance.now();
  let refusedBy: Set<string> | undefined;
  let lastRefusal = '';

  for (;;) {
    if (request.signal?.aborted) return CANCELLED;
    const waitMs = queueBudgetMs - (performance.now() - placingSince);
    if (waitMs <= 0) return placementFailed('expired', version, '', lastRefusal);
    const pending = placement.place(request.id, demand, refusedBy, waitMs, limits);
    const placed = pending instanceof Promise ? await unlessCancelled(pending, request.signal, placement) : pending;
    if (placed === 'cancelled') return CANCELLED;
    if (typeof placed === 'string') {
      const missing = placed === 'impossible' ? (placement.missingFor(demand) ?? '') : '';
      return placementFailed(placed, version, missing, lastRefusal);
    }
    const { waited } = placed;
    phases.placeMs = performance.now() - placingSince;
    const { nodeId } = placed.reservation;
    const session = registry.session(nodeId);
    const answer = await dispatchTo(placement, session, placed, version, request, deadlineMs);
    if (answer.kind === 'ended') {
      const outcome = OUTCOME_NAMES[answer.end.outcome] ?? 'outcome_unknown';
      const reason = answer.end.error?.errorMessage;
      return { outcome, reason, end: answer.end, body: answer.body, session: answer.session };
    }
    if (answer.kind === 'withdrawn') return CANCELLED;
    if (answer.kind === 'lost') return { outcome: 'outcome_unknown', reason: answer.detail, session: answer.session };
    if (answer.kind === 'refused') lastRefusal = answer.detail;
    // A node that needs the version's spec is asked again with it; any other refusal sends us to the next node.
    if (answer.kind === 'refused' && answer.reason === RefusalReason.UNKNOWN_VERSION) continue;
    if (waited) await sleep(REFUSAL_PAUSE_MS);
    refusedBy = (waited ? new Set<string>() : (refusedBy ?? new Set())).add(nodeId);
  }
}

/** How long after it was sent an invocation's node is given up, milliseconds. */
export function answerDeadlineMs({ image, initTimeoutMs, timeoutMs }: VersionSpec, queueBudgetMs: number): number {
  return queueBudgetMs + imageLoadMs(image) + initTimeoutMs + timeoutMs + ANSWER_GRACE_MS;
}

async function dispatchTo(
  placement: Placement,
  session: NodeSession | undefined,
  placed: Placed,
  version: ResolvedVersion,
  request: InvocationRequest,
  deadlineMs: number,
): Promise<(DispatchAnswer | { readonly kind: 'withdrawn' }) & { session?: NodeSession }> {
  const { id, signal, beforeSend } = request;
  const epoch = request.attempt?.epoch ?? FIRST_EPOCH;
  const cancel = (): void => session?.cancel({ invocationId: id, epoch });
  try {
    if (session === undefined) return { kind: 'unsent' };
    const { nodeId, bootId } = session;
    if (beforeSend !== undefined && !(await beforeSend({ nodeId, bootId }))) return { kind: 'withdrawn' };
    if (signal?.aborted) return { kind: 'withdrawn' };
    // Sent first: the agent must have heard of an invocation to cancel it.
    const answered = session.dispatch(version.spec, request, placed.isolation, epoch, deadlineMs);
    signal?.addEventListener('abort', cancel, { once: true });
    // What was sent leaves in the next turn.
    if (request.attempt !== undefined) crashPoint('after-send', 1);
    return { ...(await answered), session };
  } finally {
    signal?.removeEventListener('abort', cancel);
    placement.release(placed);
  }
}

/** What one invocation needs: its part of a sandbox, where several share one, or a node for itself. */
function demandOf({ spec, isolation, labels }: ResolvedVersion, alone: boolean): Demand {
  const concurrency = Math.max(1, spec.concurrency);
  return {
    functionId: spec.functionId,
    versionId: spec.versionId,
    runtime: spec.runtime,
    isolation,
    network: spec.network === '' ? 'none' : spec.network,
    architecture: spec.image?.architecture ?? '',
    labels,
    memoryMb: spec.memoryMb,
    concurrency,
    amount: alone
      ? 'whole-node'
      : {
          memoryBytes: Math.ceil((spec.memoryMb * BYTES_PER_MB) / concurrency),
          milliSlots: Math.ceil(1_000 / concurrency),
        },
  };
}

/** A place that is found for an invocation that was cancelled meanwhile is given back. */
function unlessCancelled<T extends Placed | PlacementFailure>(
  pending: Promise<T>,
  signal: AbortSignal | undefined,
  placement: Placement,
): Promise<T | 'cancelled'> {
  if (signal === undefined) return pending;
  return new Promise((resolve, reject) => {
    const cancel = (): void => resolve('cancelled');
    signal.addEventListener('abort', cancel, { once: true });
    pending.then((placed) => {
      signal.removeEventListener('abort', cancel);
      if (signal.aborted && typeof placed !== 'string') placement.release(placed);
      resolve(placed);
    }, reject);
  });
}

const CANCELLED: Conclusion = { outcome: 'not_started', reason: 'It was cancelled before it was sent to a node.' };

const refOf = ({ invocationId, epoch }: ResponseEnd): InvocationRef => ({ invocationId, epoch });

/** RETURN: the caller's result and the journal's record, from the same facts. */
function conclude(
  options: InvokeOptions,
  version: ResolvedVersion,
  request: InvocationRequest,
  phases: ControlPlanePhases & { totalMs: number },
  conclusion: Conclusion,
): InvocationResult {
  const { outcome, reason, refusal, end, session } = conclusion;
  const { spec } = version;
  phases.totalMs = performance.now() - request.arrivedAt;
  const receipt = toExecutionReceipt(end?.receipt, spec.memoryMb, phases);
  const retry = outcome === 'throttled' || outcome === 'not_started';
  const body = outcome === 'success' ? (conclusion.body ?? EMPTY) : EMPTY;
  const result: InvocationResult = {
    id: request.id,
    outcome,
    version,
    http: end?.http,
    body,
    error: outcome === 'function_error' || outcome === 'timeout' ? end?.error : undefined,
    reason: outcome === 'success' ? undefined : reason,
    refusal: refusal?.code,
    retryAfterSeconds: retry ? (refusal?.retryAfterSeconds ?? 1) : undefined,
    receipt,
    nodeId: session?.nodeId,
    attested: end !== undefined,
    acknowledge: request.attempt && end && session ? () => session.acknowledge([refOf(end)]) : undefined,
  };
  record(options.journal, request, result, conclusion);
  options.onResult(result, request);
  if ((outcome === 'not_started' && !isTriedAgain(request)) || outcome === 'outcome_unknown') {
    options.log.warn({ invocation: request.id, function: spec.functionName, outcome, reason }, 'invocation_failed');
  }
  return result;
}

/** Not starting is no news of what is queued: it waits in its queue until it does, and says itself why it waits. */
const isTriedAgain = ({ attempt }: InvocationRequest): boolean => attempt !== undefined;

function record(journal: Journal, request: InvocationRequest, result: InvocationResult, conclusion: Conclusion): void {
  if (request.attempt !== undefined) return;
  const { end, session } = conclusion;
  const { spec, keepPayloads } = result.version;
  if (leavesNoExecution(request.trigger)) {
    if (end !== undefined) session?.acknowledge([refOf(end)]);
    return;
  }
  // A throttled call never became an execution: recording each would turn a flood of calls into a flood of rows.
  if (result.outcome === 'throttled') return;
  const finishedAtMs = Date.now();
  const input: StoredBody = keepPayloads ? storedBody(request.payload) : {};
  const output: StoredBody = keepPayloads && result.outcome === 'success' ? storedBody(result.body) : {};
  journal.append(
    {
      id: request.id,
      projectId: spec.projectId,
      functionId: spec.functionId,
      functionName: spec.functionName,
      versionId: spec.versionId,
      versionNumber: spec.versionNumber,
      trigger: request.trigger,
      epoch: end?.epoch ?? FIRST_EPOCH,
      outcome: result.outcome,
      statusCode: end?.http?.statusCode,
      error: end === undefined ? undefined : toExecutionError(end),
      receipt: result.receipt,
      nodeId: result.nodeId,
      input: input.text,
      output: output.text,
      inputBytes: input.bytes,
      outputBytes: output.bytes,
      keepPayloads,
      startedAtMs: finishedAtMs - (result.receipt.totalMs ?? 0),
      finishedAtMs,
    },
    end === undefined ? undefined : session,
  );
}
