import { FleetError } from '@lambda-fleet/common/errors';
import { v7 as uuidv7 } from 'uuid';
import { storableText } from '../db/storable-text.js';
import type { ResolvedVersion } from '../functions/resolved-version.js';
import type { RequestIdentity } from '../idempotency/idempotency-key.js';
import type { NewAsyncInvocation } from './async-invocation.js';
import type { Intake } from './intake.js';
import type { OpenFilter, OpenInvocation, OpenInvocations, QueueOverview } from './open-invocations.js';

export interface AsyncInvocationsOptions {
  readonly intake: Intake;
  readonly open: OpenInvocations;
  /** Stops it if it is in progress somewhere. */
  readonly cancelRunning: (id: string) => void;
}

export interface NewRequest {
  readonly id?: string;
  readonly payload: Buffer;
  readonly traceId: string;
  /** For a request that is to be accepted once. */
  readonly identity?: RequestIdentity;
}

export interface Accepted {
  readonly id: string;
  /** Another request of the same identity was accepted before: this is its id. */
  readonly replayed: boolean;
}

/** What clients may do with async invocations. */
export class AsyncInvocations {
  constructor(private readonly options: AsyncInvocationsOptions) {}

  /**
   * Resolves with the id once the invocation is durable: it then runs, whatever becomes of this process, until it has
   * succeeded or is among the dead letters.
   *
   * @throws FleetError `throttled` when the function has as many queued as it may, `unavailable`, `idempotency_mismatch`
   */
  async accept(version: ResolvedVersion, request: NewRequest): Promise<Accepted> {
    const { projectId, functionId, functionName, asyncMaxAgeMs } = version;
    const invocation: NewAsyncInvocation = {
      id: request.id ?? uuidv7(),
      projectId,
      laneId: functionId,
      kind: 'function',
      functionId,
      functionName,
      versionId: null,
      trigger: 'async',
      payload: request.payload,
      context: request.traceId === '' ? {} : { traceId: storableText(request.traceId) },
      maxAgeMs: asyncMaxAgeMs,
    };
    const { identity } = request;
    const { id: invocationId } = invocation;
    const claim = identity && { ...identity, projectId, scope: functionId, invocationId, runsMs: 0 };
    const id = await this.options.intake.accept(invocation, claim);
    return { id, replayed: id !== invocationId };
  }

  find(projectId: string, id: string): Promise<OpenInvocation | undefined> {
    return this.options.open.find(projectId, id);
  }

  /** Newest first. */
  list(projectId: string, filter: OpenFilter): Promise<readonly OpenInvocation[]> {
    return this.options.open.list(projectId, filter);
  }

  overview(projectId: string): Promise<QueueOverview> {
    return this.options.open.overview(projectId);
  }

  /**
   * A queued one never runs. A running one is stopped; how it then ends is how it ends.
   *
   * @throws FleetError `conflict` when it is not queued or running (any more)
   */
  async cancel(projectId: string, id: string): Promise<'cancelled' | 'requested'> {
    let cancelled = await this.options.open.cancel(projectId, id);
    // It was taken, or put back, between being looked at and being locked.
    if (cancelled === 'not_open') cancelled = await this.options.open.cancel(projectId, id);
    if (cancelled === 'not_open') {
      throw new FleetError('conflict', 'It is neither queued nor running, so there is nothing to cancel.');
    }
    if (cancelled === 'requested') this.options.cancelRunning(id);
    return cancelled;
  }
}
