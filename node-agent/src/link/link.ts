import type { ChannelCredentials } from '@grpc/grpc-js';
import { Backoff } from '@lambda-fleet/common/backoff';
import { errorText } from '@lambda-fleet/common/errors';
import { INLINE_BODY_BYTES_MAX } from '@lambda-fleet/common/limits';
import type { Logger } from '@lambda-fleet/common/logger';
import {
  type Capacity,
  type ControlMessage,
  type Hello,
  type InvocationRef,
  type Invoke,
  type LogBatch,
  RefusalReason,
  type ResponseEnd,
  type VersionSpec,
  type WarmFloor,
} from '@lambda-fleet/proto';
import type { AgentInvocation, InvocationSink } from '../invocations/invocation.js';
import { IncomingPayloads } from './incoming-payloads.js';
import { KeptResults, sizeOf } from './kept-results.js';
import { type LinkBuilder, LinkBuilds } from './link-builds.js';
import { LogShipper } from './log-shipper.js';
import { Session } from './session.js';
import { SpecCache } from './spec-cache.js';

/** What the link needs of the invocation runner. */
export interface LinkRunner {
  invoke(invocation: AgentInvocation, sink: InvocationSink): void;
  cancel(ref: InvocationRef): void;
  forget(versionIds: readonly string[]): void;
  warm(floors: readonly WarmFloor[]): void;
  clearWarm(): void;
  capacity(): Capacity;
  running(): InvocationRef[];
}

export interface LinkOptions {
  /** `host:port`, tried for ever. */
  readonly address: string;
  readonly credentials: ChannelCredentials;
  /** Everything of Hello but what is read at each connect. */
  readonly hello: Omit<Hello, 'capacity' | 'running' | 'keptResults'>;
  readonly runner: LinkRunner;
  /** Undefined builds no container images. */
  readonly builder?: LinkBuilder | undefined;
  /** Called at every Welcome. */
  readonly onWelcomed: () => void;
  /** Told every end of an invocation, once. */
  readonly onEnded?: (end: ResponseEnd) => void;
  readonly log: Logger;
}

/** A connection that lasted this long counts as a success: the next failure backs off from the start. */
const LASTED_MS = 5_000;

/** How long a stopping agent waits for its last results to be recorded. */
const FAREWELL_MS = 2_000;

/** Capacity reports are joined to at most ten a second. */
const CAPACITY_LINGER_MS = 100;

/**
 * Keeps the agent connected to one control-plane replica.
 *
 * States: disconnected → connecting (a {@link Session} greets) → ready → disconnected → …,
 * until `close`. Work that runs goes on while disconnected. Results and log
 * batches are kept until they are acknowledged and sent again after each Welcome.
 */
export class Link implements InvocationSink {
  #session: Session | undefined;
  #closed = false;
  #retryTimer: NodeJS.Timeout | undefined;
  #capacityTimer: NodeJS.Timeout | undefined;
  #heartbeat: NodeJS.Timeout | undefined;
  #connectedAt = 0;
  readonly #backoff = new Backoff({ firstMs: 100, capMs: 5_000 });
  readonly #specs = new SpecCache(10_000);
  readonly #results = new KeptResults({ resultsMax: 10_000, bytesMax: 64 * 1024 * 1024 });
  readonly #payloads = new IncomingPayloads(
    (invoke, payload) => this.#start(invoke, payload),
    (invoke) => this.#refuse(invoke, RefusalReason.UNSPECIFIED, 'It was cancelled before its payload had arrived.'),
  );
  readonly #builds: LinkBuilds;
  readonly #logs = new LogShipper({
    send: (batch, bytes) => this.#sendLogs(batch, bytes),
    lingerMs: 50,
    batchLinesMax: 500,
    batchBytesMax: 256 * 1024,
    keptBytesMax: 32 * 1024 * 1024,
  });

  constructor(private readonly options: LinkOptions) {
    this.#builds = new LinkBuilds(options.builder, (message, bytes) => this.readySession?.send(message, bytes));
  }

  /** The session that is ready, for calls beside the streams. */
  get readySession(): Session | undefined {
    return this.#session?.ready ? this.#session : undefined;
  }

  start(): void {
    this.#connect();
  }

  /** Sends what is finished, then leaves. The caller has stopped the runner. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#logs.flush();
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#capacityTimer);
    const session = this.#session;
    if (session === undefined) return;
    if (session.ready) await this.#results.drained(FAREWELL_MS);
    session.close('the agent is stopping');
  }

  /** The runner's capacity changed. */
  capacityChanged(): void {
    this.#capacityTimer ??= setTimeout(this.#reportCapacity, CAPACITY_LINGER_MS);
  }

  /** What Hello says has changed. Ends the session; the next one begins with a new Hello. */
  greetAgain(): void {
    this.#session?.close('what this node offers has changed');
  }

  refused({ invoke }: AgentInvocation, reason: RefusalReason, detail: string): void {
    this.#refuse(invoke, reason, detail);
  }

  log(line: Parameters<InvocationSink['log']>[0]): void {
    this.#logs.add(line);
  }

  ended(end: ResponseEnd): void {
    this.options.onEnded?.(end);
    // The lines first: whoever has the answer finds them.
    this.#logs.flush();
    const streamed = end.body.length > INLINE_BODY_BYTES_MAX;
    const record: ResponseEnd = { ...end, bodyBytes: end.body.length, bodyStreamed: streamed };
    if (streamed) {
      record.body = EMPTY;
      this.readySession?.sendBody(record, end.body as Buffer);
    }
    this.#results.keep(record);
    this.readySession?.send({ message: { $case: 'responseEnd', value: record } }, sizeOf(record));
  }

  #connect(): void {
    const { address, credentials, hello, runner, log } = this.options;
    const session = new Session({
      address,
      credentials,
      hello: {
        ...hello,
        capacity: runner.capacity(),
        running: runner.running(),
        keptResults: this.#results.refs(),
      },
      events: {
        onWelcome: (welcomed, { heartbeatMs }) => this.#welcomed(welcomed, heartbeatMs),
        onMessage: (from, message) => this.#receive(from, message),
        onPayloadChunk: (chunk) => this.#guard(() => this.#payloads.add(chunk)),
        onClosed: (closed, reason, wasReady) => this.#disconnected(closed, reason, wasReady),
      },
    });
    this.#session = session;
    log.debug({ address }, 'link_connecting');
  }

  #welcomed(session: Session, heartbeatMs: number): void {
    this.#connectedAt = performance.now();
    this.options.runner.clearWarm();
    this.#heartbeat = setInterval(this.#reportCapacity, heartbeatMs);
    for (const end of this.#results.replay()) {
      session.send({ message: { $case: 'responseEnd', value: end } }, sizeOf(end));
    }
    this.#logs.replay();
    this.options.log.info({ address: this.options.address, results: this.#results.size }, 'link_ready');
    this.options.onWelcomed();
  }

  #disconnected(session: Session, reason: string, wasReady: boolean): void {
    if (this.#session !== session) return;
    this.#session = undefined;
    clearInterval(this.#heartbeat);
    this.#payloads.clear();
    this.#builds.disconnected();
    if (this.#closed) return;
    if (wasReady && performance.now() - this.#connectedAt > LASTED_MS) this.#backoff.reset();
    const delayMs = this.#backoff.next();
    this.options.log.warn({ reason, delayMs: Math.round(delayMs) }, 'link_lost');
    this.#retryTimer = setTimeout(() => this.#connect(), delayMs);
  }

  #receive(session: Session, message: Exclude<ControlMessage['message'], undefined>): void {
    switch (message.$case) {
      case 'invoke':
        this.#invoke(message.value);
        return;
      case 'build':
        this.#builds.start(message.value);
        return;
      case 'cancelBuild':
        this.#builds.cancel(message.value.buildId);
        return;
      case 'cancel':
        if (!this.#payloads.cancel(message.value.invocationId)) this.options.runner.cancel(message.value);
        return;
      case 'resultAck':
        this.#results.acknowledge(message.value.results);
        return;
      case 'logAck':
        this.#logs.acknowledge(message.value.sequence);
        return;
      case 'forget':
        this.#specs.forget(message.value.versionIds);
        this.options.runner.forget(message.value.versionIds);
        return;
      case 'warm':
        this.options.runner.warm(message.value.floors);
        return;
      default:
        session.close(`unexpected ${message.$case}`);
    }
  }

  #invoke(invoke: Invoke): void {
    if (invoke.spec !== undefined) this.#specs.add(invoke.spec);
    if (invoke.payloadStreamed) this.#guard(() => this.#payloads.expect(invoke));
    else this.#start(invoke, invoke.payload as Buffer);
  }

  #start(invoke: Invoke, payload: Buffer): void {
    const spec: VersionSpec | undefined = invoke.spec ?? this.#specs.get(invoke.versionId);
    if (spec === undefined) {
      this.#refuse(invoke, RefusalReason.UNKNOWN_VERSION, 'The node has not been told about this version.');
    } else if (this.#results.full) {
      const detail = 'The node holds as many unrecorded results as it may; the control plane is not recording them.';
      this.#refuse(invoke, RefusalReason.RESULTS_UNACKNOWLEDGED, detail);
    } else {
      this.options.runner.invoke({ invoke, spec, payload, arrivedAt: performance.now() }, this);
    }
  }

  #refuse({ invocationId, epoch }: Invoke, reason: RefusalReason, detail: string): void {
    const refused = { invocationId, epoch, reason, detail };
    this.readySession?.send({ message: { $case: 'refused', value: refused } }, 128 + detail.length);
  }

  #sendLogs(batch: LogBatch, bytes: number): void {
    this.readySession?.send({ message: { $case: 'logBatch', value: batch } }, bytes);
  }

  /** A control plane that breaks the protocol loses its session and nothing else. */
  #guard(work: () => void): void {
    try {
      work();
    } catch (err) {
      this.#session?.close(errorText(err));
    }
  }

  readonly #reportCapacity = (): void => {
    clearTimeout(this.#capacityTimer);
    this.#capacityTimer = undefined;
    this.readySession?.send({ message: { $case: 'capacity', value: this.options.runner.capacity() } }, 256);
  };
}

const EMPTY = Buffer.alloc(0);
