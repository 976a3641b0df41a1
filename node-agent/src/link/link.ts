import { Backoff } from '@lambda-fleet/common/backoff';
import { errorText } from '@lambda-fleet/common/errors';
import { INLINE_BODY_BYTES_MAX } from '@lambda-fleet/common/limits';
import {
  type Capacity,
  type ControlMessage,
  type DrainProgress,
  type Invoke,
  type Leaving,
  RefusalReason,
  type ResponseEnd,
  type SelfTestCheck,
  type VersionSpec,
  type Welcome,
} from '@lambda-fleet/proto';
import type { AgentInvocation, InvocationSink } from '../invocations/invocation.js';
import type { AgentLinks } from './agent-links.js';
import { IncomingPayloads } from './incoming-payloads.js';
import { sizeOf } from './kept-results.js';
import { LinkBuilds } from './link-builds.js';
import { type KeptLines, LogShipper } from './log-shipper.js';
import type { Replica } from './replica-list.js';
import { Session, type SessionEnd } from './session.js';
import { ToldArtifacts } from './told-artifacts.js';

/** A connection that lasted this long counts as a success: the next failure backs off from the start. */
const LASTED_MS = 5_000;

/** The agents of a replica that dies all notice at once, and must not all be back at once. */
const FIRST_RETRY_SPREAD_MS = 500;

/**
 * How long a replica may take to welcome, longer each time that it took too long: one that is besieged by a thousand agents would
 * otherwise do nothing but greet those that have given up.
 */
const WELCOME_DEADLINE_MS = { first: 10_000, cap: 60_000 };

/** An address that leads to a replica that another one leads to as well is of use only when that one is not any more. */
const LINKED_RETRY_MS = 30_000;

/**
 * Keeps the agent connected to one replica of the control plane.
 *
 * States: disconnected → connecting (a {@link Session} connects and greets) → ready → disconnected → …,
 * until `close`. Work that came over it goes on while it is disconnected, and what becomes of it goes over whichever link is
 * ready. What is the agent's and not the link's is in {@link AgentLinks}.
 */
export class Link implements InvocationSink {
  #session: Session | undefined;
  #replicaId: string | undefined;
  #closed = false;
  #retryTimer: NodeJS.Timeout | undefined;
  #heartbeat: NodeJS.Timeout | undefined;
  #connectedAt = 0;
  #unreadySince = performance.now();
  #welcomeDeadlineMs = WELCOME_DEADLINE_MS.first;
  readonly #backoff = new Backoff({ firstMs: 100, capMs: 5_000 });
  readonly #payloads = new IncomingPayloads(
    (invoke, payload) => this.#start(invoke, payload),
    (invoke) => this.#refuse(invoke, RefusalReason.UNSPECIFIED, 'It was cancelled before its payload had arrived.'),
  );
  readonly #builds: LinkBuilds;
  readonly #told = new ToldArtifacts();
  readonly #logs: LogShipper;

  constructor(
    readonly replica: Replica,
    private readonly home: AgentLinks,
  ) {
    this.#builds = new LinkBuilds(
      home.options.builder,
      (message, bytes) => this.readySession?.send(message, bytes),
      () => home.buildsRefusal,
    );
    this.#logs = new LogShipper({
      send: (batch, bytes) => this.readySession?.send({ message: { $case: 'logBatch', value: batch } }, bytes),
      lingerMs: 50,
      batchLinesMax: 500,
      batchBytesMax: 256 * 1024,
      budget: home.logBudget,
    });
  }

  /** The session that is ready, for calls beside the streams. */
  get readySession(): Session | undefined {
    return this.#session?.ready ? this.#session : undefined;
  }

  /** The replica that it is linked to; undefined while it is not ready. */
  get replicaId(): string | undefined {
    return this.readySession && this.#replicaId;
  }

  /** How long it has not been ready; 0 while it is. */
  get unreadyMs(): number {
    return this.readySession === undefined ? performance.now() - this.#unreadySince : 0;
  }

  /** Whether this replica has told of an artifact in this session: it then gives it. */
  toldOf(sha256: string): boolean {
    return this.#told.has(sha256);
  }

  /** Whether it gave this build, which is not over. */
  gaveBuild(buildId: string): boolean {
    return this.#builds.has(buildId);
  }

  start(): void {
    this.#connect();
  }

  flushLogs(): void {
    this.#logs.flush();
  }

  close(reason: string): void {
    this.#closed = true;
    clearTimeout(this.#retryTimer);
    this.#session?.close(reason);
  }

  get builds(): number {
    return this.#builds.running;
  }

  abandonBuilds(): void {
    this.#builds.abandon();
  }

  /** Whether every log line is committed. */
  get settled(): boolean {
    return this.#logs.settled;
  }

  reportDrain(progress: DrainProgress): void {
    this.readySession?.send({ message: { $case: 'drainProgress', value: progress } }, 96);
  }

  reportSelfTest(checks: SelfTestCheck[]): void {
    this.readySession?.send({ message: { $case: 'selfTest', value: { checks } } }, 256 * checks.length);
  }

  /** Says that this agent is being stopped. */
  leave(leaving: Leaving): void {
    this.readySession?.send({ message: { $case: 'leaving', value: leaving } }, 16);
  }

  /** What Hello says has changed. Ends the session; the next one begins with a new Hello. */
  greetAgain(): void {
    this.#session?.close('what this node offers has changed');
  }

  reportCapacity(capacity: Capacity): void {
    this.readySession?.send({ message: { $case: 'capacity', value: capacity } }, 256);
  }

  refused({ invoke }: AgentInvocation, reason: RefusalReason, detail: string): void {
    this.#refuse(invoke, reason, detail);
  }

  log(line: Parameters<InvocationSink['log']>[0]): void {
    (this.home.carrierFor(this) ?? this.home.keeperFor(this)).#logs.add(line);
  }

  ended(end: ResponseEnd): void {
    const carrier = this.home.carrierFor(this);
    this.home.ending(end);
    // The lines first: whoever has the answer finds them.
    (carrier ?? this.home.keeperFor(this)).#logs.flush();
    const streamed = end.body.length > INLINE_BODY_BYTES_MAX;
    const record: ResponseEnd = { ...end, bodyBytes: end.body.length, bodyStreamed: streamed };
    if (streamed) record.body = EMPTY;
    this.home.results.keep(record, carrier);
    if (carrier === this) {
      if (streamed) this.readySession?.sendBody(record, end.body as Buffer);
      this.sendResults([record]);
    } else {
      // Whoever waited for it waits at another replica, if at all.
      carrier?.sendResults([{ ...record, replayed: true }]);
    }
  }

  sendResults(ends: readonly ResponseEnd[]): void {
    for (const end of ends) this.readySession?.send({ message: { $case: 'responseEnd', value: end } }, sizeOf(end));
  }

  /** Ships the log lines that another link could not. */
  adoptLogs(left: readonly KeptLines[]): void {
    this.#logs.adopt(left);
  }

  releaseLogs(): readonly KeptLines[] {
    return this.#logs.release();
  }

  #connect(): void {
    const { replica, home } = this;
    const session = new Session({
      replica,
      credentials: home.options.credentials(),
      greeting: () => ({ hello: home.hello(), linked: home.linkedReplicas() }),
      welcomeDeadlineMs: this.#welcomeDeadlineMs,
      events: {
        onWelcome: (welcomed, welcome) => this.#welcomed(welcomed, welcome),
        onMessage: (from, message) => this.#receive(from, message),
        onPayloadChunk: (chunk) => this.#guard(() => this.#payloads.add(chunk)),
        onClosed: (closed, reason, end) => this.#disconnected(closed, reason, end),
      },
    });
    this.#session = session;
    home.options.log.debug({ address: replica.address }, 'link_connecting');
  }

  #welcomed(session: Session, welcome: Welcome): void {
    this.#connectedAt = performance.now();
    this.#replicaId = welcome.replicaId;
    this.#heartbeat = setInterval(() => this.reportCapacity(this.home.capacity()), welcome.heartbeatMs);
    this.#logs.replay();
    this.home.welcomed(this, welcome);
    if (session.ready) this.home.options.log.info({ address: this.replica.address }, 'link_ready');
  }

  #disconnected(session: Session, reason: string, end: SessionEnd): void {
    if (this.#session !== session) return;
    const { address } = this.replica;
    this.#session = undefined;
    clearInterval(this.#heartbeat);
    this.#payloads.clear();
    this.#builds.abandon();
    this.#told.clear();
    const { first, cap } = WELCOME_DEADLINE_MS;
    this.#welcomeDeadlineMs = end === 'unanswered' ? Math.min(cap, 2 * this.#welcomeDeadlineMs) : first;
    if (end === 'broke') {
      this.#unreadySince = performance.now();
      this.home.lost(this);
    }
    if (this.#closed) return;
    const delayMs = this.#retryDelayMs(end);
    const level = end === 'linked' ? 'debug' : 'warn';
    this.home.options.log[level]({ address, reason, delayMs: Math.round(delayMs) }, 'link_lost');
    this.#retryTimer = setTimeout(() => this.#connect(), delayMs);
  }

  #retryDelayMs(end: SessionEnd): number {
    if (end === 'linked') return LINKED_RETRY_MS * (0.5 + Math.random() / 2);
    if (end === 'broke' && performance.now() - this.#connectedAt > LASTED_MS) this.#backoff.reset();
    return this.#backoff.next() + (end === 'broke' ? Math.random() * FIRST_RETRY_SPREAD_MS : 0);
  }

  #receive(session: Session, message: Exclude<ControlMessage['message'], undefined>): void {
    switch (message.$case) {
      case 'invoke':
        this.#invoke(message.value);
        return;
      case 'welcome':
        this.home.announced(this, message.value.peers);
        return;
      case 'lease':
        this.home.lease.told(message.value);
        return;
      case 'build':
        this.#told.add([message.value.contextSha256]);
        this.#builds.start(message.value);
        return;
      case 'cancelBuild':
        this.#builds.cancel(message.value.buildId);
        return;
      case 'cancel':
        if (!this.#payloads.cancel(message.value.invocationId)) this.home.options.runner.cancel(message.value);
        return;
      case 'resultAck':
        this.home.results.acknowledge(message.value.results);
        return;
      case 'logAck':
        this.#logs.acknowledge(message.value.sequence);
        return;
      case 'forget':
        this.home.forget(message.value.versionIds);
        return;
      case 'drain':
        this.home.options.onDrain(message.value);
        return;
      case 'warm':
        for (const { spec } of message.value.floors) this.#told.addSpec(spec);
        this.home.floors.set(this, message.value.floors);
        return;
      default:
        session.close(`unexpected ${message.$case}`);
    }
  }

  #invoke(invoke: Invoke): void {
    if (invoke.spec !== undefined) {
      this.home.specs.add(invoke.spec);
      this.#told.addSpec(invoke.spec);
    }
    if (invoke.payloadStreamed) this.#guard(() => this.#payloads.expect(invoke));
    else this.#start(invoke, invoke.payload as Buffer);
  }

  #start(invoke: Invoke, payload: Buffer): void {
    const { specs, results, lease, options } = this.home;
    const spec: VersionSpec | undefined = invoke.spec ?? specs.get(invoke.versionId);
    lease.checkAfterPause();
    if (lease.over) {
      this.#refuse(
        invoke,
        RefusalReason.STOPPING,
        'The lease of this node is over, and no replica has renewed it yet.',
      );
    } else if (spec === undefined) {
      this.#refuse(invoke, RefusalReason.UNKNOWN_VERSION, 'The node has not been told about this version.');
    } else if (results.full) {
      const detail = 'The node holds as many unrecorded results as it may; the control plane is not recording them.';
      this.#refuse(invoke, RefusalReason.RESULTS_UNACKNOWLEDGED, detail);
    } else {
      options.runner.invoke({ invoke, spec, payload, arrivedAt: performance.now() }, this);
    }
  }

  #refuse({ invocationId, epoch }: Invoke, reason: RefusalReason, detail: string): void {
    const refused = { invocationId, epoch, reason, detail };
    this.readySession?.send({ message: { $case: 'refused', value: refused } }, 128 + detail.length);
  }

  /** A control plane that breaks the protocol loses its session and nothing else. */
  #guard(work: () => void): void {
    try {
      work();
    } catch (err) {
      this.#session?.close(errorText(err));
    }
  }
}

const EMPTY = Buffer.alloc(0);
