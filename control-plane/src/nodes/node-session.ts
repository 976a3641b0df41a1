import { randomUUID } from 'node:crypto';
import { BatchedWriter } from '@lambda-fleet/common/batched-writer';
import { ChunkSender } from '@lambda-fleet/common/chunk-sender';
import { INLINE_BODY_BYTES_MAX, RESPONSE_BYTES_MAX } from '@lambda-fleet/common/limits';
import type { Logger } from '@lambda-fleet/common/logger';
import {
  type AgentMessage,
  type Capacity,
  type ControlFrame,
  type ControlMessage,
  type Drain,
  type DrainProgress,
  type Hello,
  type InvocationRef,
  type Invoke,
  type LogBatch,
  Outcome,
  RefusalReason,
  type ResponseChunk,
  type ResponseEnd,
  type SelfTestCheck,
  type VersionSpec,
  type WarmFloor,
} from '@lambda-fleet/proto';
import type { AttemptClaim, AttemptGrants } from './attempt-grants.js';
import { Dispatch, type DispatchAnswer, type DispatchRequest } from './dispatch.js';
import { EMPTY_CAPACITY } from './empty-capacity.js';
import { SessionBuilds } from './session-builds.js';
import { ToldVersions } from './told-versions.js';
import { Unacknowledged } from './unacknowledged.js';

/** Control messages that wait because the agent does not read: past this it is given up. */
const QUEUED_BYTES_MAX = 32 * 1024 * 1024;

/** Below the 4 MiB that the receiver accepts, and small enough not to block its loop while it decodes. */
const FRAME_BYTES_MAX = 512 * 1024;

export const HEARTBEAT_MS = 5_000;

/** Silence after which a node gets no new work. */
export const SUSPECT_MS = 15_000;

/** Silence after which the session is closed and what runs there is lost. */
export const LOST_MS = 45_000;

export interface SessionEvents {
  /** The agent's capacity or its sandboxes changed. */
  onCapacity(session: NodeSession, capacity: Capacity): void;
  /** A result for which nobody waits here: sent again after a reconnect, or after the caller was answered. */
  onUnclaimedResult(session: NodeSession, end: ResponseEnd): void;
  onLogs(session: NodeSession, batch: LogBatch): void;
  onDrainProgress(session: NodeSession, progress: DrainProgress): void;
  /** Its agent is being stopped, and ends what runs within `boundMs`. */
  onLeaving(session: NodeSession, boundMs: number): void;
  /** What the agent has tried so far, in all. */
  onSelfTest(session: NodeSession, checks: readonly SelfTestCheck[]): void;
  onClosed(session: NodeSession, reason: string): void;
}

export interface SessionTransport {
  /** Writes one frame on the Connect stream; false asks to wait for `drained`. */
  readonly write: (messages: ControlMessage[]) => boolean;
  readonly end: (reason: string) => void;
}

/**
 * One agent's link, from its Hello to the end of its stream.
 *
 * Purpose: send invocations and match what comes back to who waits for it.
 * States: ready → closed. (Before Hello there is no session.) Closing answers
 * every dispatch that is still open as lost, exactly once; nothing is ever sent
 * twice, because a sync invocation runs at most once.
 */
export class NodeSession {
  readonly id = randomUUID();
  readonly #openedAt = performance.now();
  /** What the agent had when it connected: running or kept for us. By invocation and epoch. */
  readonly #had: ReadonlySet<string>;
  #state: 'ready' | 'closed' = 'ready';
  #capacity: Capacity;
  #lastHeardAt = performance.now();
  #leaving = false;
  readonly #dispatches = new Map<string, Dispatch>();
  readonly #inFlightByVersion = new Map<string, number>();
  readonly #sandboxesByVersion = new Map<string, number>();
  /** Versions whose spec this session has been sent, with the artifacts it may therefore fetch. */
  readonly #specsSent = new ToldVersions();
  readonly #unacknowledged = new Unacknowledged();
  readonly #writer: BatchedWriter<ControlMessage>;
  /** Called when {@link sandboxesOf} or {@link inFlightOf} a version has changed, except by a report of capacity. One listener. */
  onVersionChange: (versionId: string) => void = () => undefined;
  readonly payloads = new ChunkSender(toPayloadFrame);
  readonly builds = new SessionBuilds((message, bytes) => this.send(message, bytes));

  constructor(
    readonly nodeId: string,
    readonly hello: Hello,
    private readonly transport: SessionTransport,
    private readonly events: SessionEvents,
    private readonly log: Logger,
    private readonly grants?: AttemptGrants,
  ) {
    this.#writer = new BatchedWriter<ControlMessage>({
      write: transport.write,
      onOverflow: () => this.close('the agent does not read its stream'),
      queuedBytesMax: QUEUED_BYTES_MAX,
      batchBytesMax: FRAME_BYTES_MAX,
    });
    this.#had = new Set([...hello.running, ...hello.keptResults].map(refKey));
    this.#capacity = hello.capacity ?? EMPTY_CAPACITY;
    this.#indexSandboxes();
  }

  get closed(): boolean {
    return this.#state === 'closed';
  }

  get capacity(): Capacity {
    return this.#capacity;
  }

  /** Changes with every start of the agent. */
  get bootId(): string {
    return this.hello.bootId;
  }

  get ageMs(): number {
    return performance.now() - this.#openedAt;
  }

  /** Whether the agent had this attempt when it connected. */
  hadAtConnect(ref: InvocationRef): boolean {
    return this.#had.has(refKey(ref));
  }

  get silentMs(): number {
    return performance.now() - this.#lastHeardAt;
  }

  /** Its agent is being stopped; it takes no new work. */
  get leaving(): boolean {
    return this.#leaving;
  }

  /** What this replica has running there, and `performance.now()` by which all of it has ended. */
  get inFlight(): { readonly count: number; readonly endsBy: number } {
    let endsBy = performance.now();
    for (const dispatch of this.#dispatches.values()) endsBy = Math.max(endsBy, dispatch.deadlineAt);
    return { count: this.#dispatches.size, endsBy };
  }

  inFlightOf(versionId: string): number {
    return this.#inFlightByVersion.get(versionId) ?? 0;
  }

  sandboxesOf(versionId: string): number {
    return this.#sandboxesByVersion.get(versionId) ?? 0;
  }

  /** The project of an artifact that this agent was told to run, or undefined when it has no business with it. */
  projectOfArtifact(sha256: string): string | undefined {
    return this.#specsSent.projectOfArtifact(sha256) ?? this.builds.projectOfContext(sha256);
  }

  /** Whether the agent was told in this session of the version that it speaks of. */
  wasToldOf(claim: AttemptClaim): boolean {
    return this.#specsSent.includes(claim);
  }

  send(message: ControlMessage, bytes: number): void {
    this.#writer.push(message, bytes);
  }

  drained(): void {
    this.#writer.drained();
  }

  /** Sends the invocation, to be run under this isolation, and resolves with what became of it; never rejects. */
  dispatch(
    spec: VersionSpec,
    request: DispatchRequest,
    isolation: string,
    epoch: number,
    deadlineMs: number,
  ): Promise<DispatchAnswer> {
    if (this.#state === 'closed' || this.#dispatches.has(request.id)) return Promise.resolve({ kind: 'unsent' });
    const streamed = request.payload.length > INLINE_BODY_BYTES_MAX;
    if (streamed && !this.payloads.attached) return Promise.resolve({ kind: 'unsent' });
    return new Promise((resolve) => {
      const deadlineAt = performance.now() + deadlineMs;
      const keepsSandbox = spec.keepAliveMs > 0 && !request.singleUse;
      const dispatch = new Dispatch(request.id, epoch, spec.versionId, keepsSandbox, deadlineAt, resolve);
      this.#dispatches.set(request.id, dispatch);
      this.#inFlightByVersion.set(spec.versionId, this.inFlightOf(spec.versionId) + 1);
      this.onVersionChange(spec.versionId);
      const firstTime = !this.#specsSent.has(spec.versionId);
      if (firstTime) this.#specsSent.add(spec);
      const { versionId, functionId, projectId } = spec;
      const claim = { invocationId: request.id, epoch, versionId, functionId, projectId };
      const invoke: Invoke = {
        invocationId: request.id,
        epoch,
        kind: request.kind,
        versionId: spec.versionId,
        spec: firstTime ? spec : undefined,
        trigger: request.trigger,
        traceId: request.traceId,
        payloadBytes: request.payload.length,
        payloadStreamed: streamed,
        payload: streamed ? EMPTY : request.payload,
        clientContext: request.clientContext,
        singleUse: request.singleUse,
        isolation,
        grant: this.grants?.grant(this.nodeId, claim),
      };
      this.send({ message: { $case: 'invoke', value: invoke } }, 256 + invoke.payload.length);
      if (streamed) this.payloads.send({ invocationId: request.id, epoch }, request.payload);
    });
  }

  /** Tells the agent that these results are committed. */
  acknowledge(results: InvocationRef[]): void {
    this.#unacknowledged.removeResults(results);
    this.send({ message: { $case: 'resultAck', value: { results } } }, 48 * results.length);
  }

  acknowledgeLogs(sequence: number): void {
    this.#unacknowledged.removeLogs(sequence);
    this.send({ message: { $case: 'logAck', value: { sequence } } }, 16);
  }

  /** Tells the agent how many sandboxes of these versions to keep ready. */
  warm(floors: WarmFloor[]): void {
    for (const { spec } of floors) {
      // Its code has to be fetched.
      if (spec === undefined) continue;
      this.#specsSent.add(spec);
    }
    this.send({ message: { $case: 'warm', value: { floors } } }, 512 * floors.length);
  }

  drain(drain: Drain): void {
    this.send({ message: { $case: 'drain', value: drain } }, 64);
  }

  /** The agent stops what runs under this reference and answers how it ended. Telling it again, or too late, does no harm. */
  cancel(ref: InvocationRef): void {
    this.send({ message: { $case: 'cancel', value: ref } }, 64);
  }

  forget(versionIds: string[]): void {
    for (const id of versionIds) this.#specsSent.delete(id);
    this.send({ message: { $case: 'forget', value: { versionIds } } }, 40 * versionIds.length);
  }

  receive(message: AgentMessage): void {
    if (this.#state === 'closed') return;
    this.#lastHeardAt = performance.now();
    const body = message.message;
    switch (body?.$case) {
      case 'capacity':
        this.#capacity = body.value;
        this.#indexSandboxes();
        this.events.onCapacity(this, body.value);
        return;
      case 'refused': {
        const dispatch = this.#dispatches.get(body.value.invocationId);
        if (dispatch?.epoch !== body.value.epoch) return;
        if (body.value.reason === RefusalReason.UNKNOWN_VERSION) this.#specsSent.delete(dispatch.versionId);
        this.#settle(dispatch, { kind: 'refused', reason: body.value.reason, detail: body.value.detail });
        return;
      }
      case 'responseEnd':
        this.#receiveEnd(body.value);
        return;
      case 'logBatch':
        if (this.#unacknowledged.addLogs(body.value)) this.events.onLogs(this, body.value);
        else this.close('it sends more log lines than an agent keeps');
        return;
      case 'drainProgress':
        this.events.onDrainProgress(this, body.value);
        return;
      case 'leaving':
        if (this.#leaving) return;
        this.#leaving = true;
        this.events.onLeaving(this, body.value.boundMs);
        return;
      case 'selfTest':
        this.events.onSelfTest(this, body.value.checks);
        return;
      case 'buildLog':
        this.builds.receiveLog(body.value);
        return;
      case 'buildEnd':
        this.builds.receiveEnd(body.value);
        return;
      default:
        this.close(`unexpected message ${body?.$case ?? 'without content'}`);
    }
  }

  receiveChunk(chunk: ResponseChunk): void {
    if (this.#state === 'closed') return;
    this.#lastHeardAt = performance.now();
    const dispatch = this.#dispatches.get(chunk.invocationId);
    if (dispatch === undefined || dispatch.epoch !== chunk.epoch) return;
    dispatch.addChunk(chunk.data as Buffer);
    if (dispatch.receivedBytes > RESPONSE_BYTES_MAX) {
      this.close('a response is longer than any response may be');
      return;
    }
    this.#answerIfComplete(dispatch);
  }

  /** Gives up dispatches whose node has had far longer than their budgets allow. Called once a second. */
  sweep(now: number): void {
    for (const dispatch of this.#dispatches.values()) {
      if (dispatch.deadlineAt > now) continue;
      this.cancel({ invocationId: dispatch.invocationId, epoch: dispatch.epoch });
      this.#settle(dispatch, { kind: 'lost', detail: 'the node did not answer within the budgets of the invocation' });
    }
  }

  close(reason: string): void {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    this.log.info({ node: this.nodeId, session: this.id, reason, lost: this.#dispatches.size }, 'session_closed');
    this.#writer.close();
    this.payloads.detach();
    for (const dispatch of [...this.#dispatches.values()]) {
      this.#settle(dispatch, { kind: 'lost', detail: 'the connection to the node broke while the invocation ran' });
    }
    this.builds.close();
    this.transport.end(reason);
    this.events.onClosed(this, reason);
  }

  #receiveEnd(end: ResponseEnd): void {
    const inlineMax = end.bodyStreamed ? 0 : INLINE_BODY_BYTES_MAX;
    const contradicts = !end.bodyStreamed && end.body.length !== end.bodyBytes;
    if (end.bodyBytes > RESPONSE_BYTES_MAX || end.body.length > inlineMax || contradicts) {
      this.close('a response contradicts its own size');
      return;
    }
    if (!this.#unacknowledged.addResult(end)) {
      this.close('it sends more results than an agent keeps');
      return;
    }
    const dispatch = this.#dispatches.get(end.invocationId);
    if (dispatch === undefined || dispatch.epoch !== end.epoch) {
      this.events.onUnclaimedResult(this, end);
      return;
    }
    dispatch.setEnd(end);
    // The report of it is a moment behind, and a call in that moment would be started cold on another node.
    const { versionId, keepsSandbox } = dispatch;
    if (keepsSandbox && end.outcome === Outcome.SUCCESS && this.sandboxesOf(versionId) === 0) {
      this.#sandboxesByVersion.set(versionId, 1);
      this.onVersionChange(versionId);
    }
    this.#answerIfComplete(dispatch);
  }

  #answerIfComplete(dispatch: Dispatch): void {
    const answer = dispatch.complete();
    if (answer !== undefined) this.#settle(dispatch, answer);
  }

  #settle(dispatch: Dispatch, answer: DispatchAnswer): void {
    if (!this.#dispatches.delete(dispatch.invocationId)) return;
    const inFlight = this.inFlightOf(dispatch.versionId) - 1;
    if (inFlight > 0) this.#inFlightByVersion.set(dispatch.versionId, inFlight);
    else this.#inFlightByVersion.delete(dispatch.versionId);
    this.onVersionChange(dispatch.versionId);
    dispatch.answer(answer);
  }

  #indexSandboxes(): void {
    this.#sandboxesByVersion.clear();
    for (const { versionId, idle, busy } of this.#capacity.versions)
      this.#sandboxesByVersion.set(versionId, idle + busy);
  }
}

const EMPTY = Buffer.alloc(0);

const refKey = ({ invocationId, epoch }: InvocationRef): string => `${invocationId}/${epoch}`;

function toPayloadFrame({ invocationId, epoch }: InvocationRef, data: Buffer): ControlFrame {
  return { messages: [{ message: { $case: 'payloadChunk', value: { invocationId, epoch, data } } }] };
}
