import { FleetError } from '@lambda-fleet/common/errors';
import { InvokeKind } from '@lambda-fleet/proto';
import type { ResolvedVersion } from '../functions/resolved-version.js';
import { type KeyClaim, neverSettled, REPLAYED_HEADER, type RequestIdentity } from '../idempotency/idempotency-key.js';
import { type FoundKey, IdempotencyKeys, type IdempotencyKeysOptions } from '../idempotency/idempotency-keys.js';
import { type RecordedResult, readRecordedResult } from '../idempotency/recorded-result.js';
import type { InvocationRequest, InvocationResult, Invoke } from '../invocations/invocation.js';
import { answerDeadlineMs } from '../invocations/invoke.js';
import { errorEnvelope } from './render-error.js';
import { type Answer, renderResult } from './write-result.js';

export interface InvokeOnceOptions extends IdempotencyKeysOptions {
  readonly invoke: Invoke;
  /** How long an invocation may wait for a node in all, milliseconds. */
  readonly queueBudgetMs: number;
}

type Unanswered = Extract<FoundKey, { readonly kind: 'unanswered' }>;

/** Beyond its budgets: for storing the answer, and for clocks and processes that stand still. */
const OVERDUE_AFTER_MS = 30_000;

/** A result that has been recorded for so long is not about to be answered by the process that ran it: that has died. */
const ORPHANED_AFTER_MS = 30_000;

const ROUNDS = 5;

/**
 * Sync invocations with an Idempotency-Key: one of all requests with the same key runs, and its answer is stored before
 * anybody gets it.
 *
 * Never twice: a key is freed only by the request that holds it, when nothing was run, or when the execution says so.
 */
export class InvokeOnce {
  readonly #keys: IdempotencyKeys;

  constructor(private readonly options: InvokeOnceOptions) {
    this.#keys = new IdempotencyKeys(options);
  }

  close(): Promise<void> {
    return this.#keys.close();
  }

  /** @throws FleetError `conflict` while it runs, `idempotency_mismatch`, `unavailable` */
  async answer(version: ResolvedVersion, request: InvocationRequest, identity: RequestIdentity): Promise<Answer> {
    const { invoke, queueBudgetMs } = this.options;
    const { projectId, functionId: scope, spec } = version;
    const runsMs = queueBudgetMs + answerDeadlineMs(spec, queueBudgetMs) + OVERDUE_AFTER_MS;
    const claim: KeyClaim = { ...identity, projectId, scope, invocationId: request.id, runsMs };
    for (let round = 0; round < ROUNDS; round += 1) {
      const found = await this.#keys.claim(claim);
      if (found.kind === 'answered') return replayed({ ...found.answer, headers: [...found.answer.headers] });
      if (found.kind === 'unanswered') {
        const answer = await this.#answerOf(found, version, request, claim);
        if (answer !== undefined) return replayed(answer);
        continue;
      }
      const result = await invoke(version, request);
      const answer = render(result, request);
      if (result.outcome === 'throttled' || result.outcome === 'not_started') await this.#keys.release(claim);
      else await this.#keys.keep(claim, { ...answer, headers: [...answer.headers] });
      return answer;
    }
    throw neverSettled();
  }

  /** For a key without an answer. Undefined when nothing was run under it: it is free now. */
  async #answerOf(
    { invocationId, ageMs, leftMs }: Unanswered,
    version: ResolvedVersion,
    request: InvocationRequest,
    claim: KeyClaim,
  ): Promise<Answer | undefined> {
    const over = leftMs <= 0;
    if (!over && ageMs < ORPHANED_AFTER_MS) throw stillRunning(invocationId);
    const result = await readRecordedResult(this.options.database, claim.projectId, invocationId);
    // While it may be running, a node that comes back may still know what became of it.
    const final = result !== undefined && result.outcome !== 'outcome_unknown' && result.ageMs >= ORPHANED_AFTER_MS;
    if (!over && !final) throw stillRunning(invocationId);
    const held = { ...claim, invocationId };
    if (result === undefined || result.outcome === 'outcome_unknown') {
      return unknown(invocationId, 'The server that ran it was stopped before it could answer.');
    }
    if (result.outcome === 'not_started') {
      await this.#keys.release(held);
      return undefined;
    }
    const { body } = result;
    const http = request.kind === InvokeKind.HTTP;
    if (result.outcome === 'success' && (body === undefined || (http && result.http === undefined))) {
      return unknown(invocationId, 'It has succeeded, but its whole result was not recorded.', { outcome: 'success' });
    }
    const answer = render(recalled(result, invocationId, version), request);
    await this.#keys.keep(held, { ...answer, headers: [...answer.headers] });
    return answer;
  }
}

function render(result: InvocationResult, { kind }: InvocationRequest): Answer {
  return renderResult(result, { http: kind === InvokeKind.HTTP, showError: true });
}

function recalled(
  { outcome, versionNumber, nodeId, receipt, error, http, body }: RecordedResult,
  id: string,
  version: ResolvedVersion,
): InvocationResult {
  return {
    ...{ id, outcome, receipt, error, http, nodeId, attested: true },
    version: { ...version, spec: { ...version.spec, versionNumber } },
    body: body ?? Buffer.alloc(0),
  };
}

function replayed(answer: Answer): Answer {
  answer.headers.push(REPLAYED_HEADER, 'true');
  return answer;
}

function unknown(invocationId: string, why: string, details: Readonly<Record<string, unknown>> = {}): Answer {
  const message = `A request with this Idempotency-Key was started, and its answer is not known. ${why} Nothing was run again.`;
  const body = errorEnvelope('outcome_unknown', message, invocationId, { ...details, executionId: invocationId });
  const outcome = ['x-request-id', invocationId, 'x-lambda-outcome', 'outcome_unknown'];
  return { status: 502, headers: [...outcome, 'content-type', 'application/json'], body: Buffer.from(body) };
}

function stillRunning(invocationId: string): FleetError {
  return new FleetError(
    'conflict',
    'A request with this Idempotency-Key is running. Send this one again when it has ended: it gets the same answer.',
    { executionId: invocationId, retryAfterSeconds: 1 },
  );
}
