import {
  type ChannelCredentials,
  type ChannelOptions,
  type ClientDuplexStream,
  connectivityState,
  Metadata,
  type ServiceError,
  status,
} from '@grpc/grpc-js';
import { BatchedWriter } from '@lambda-fleet/common/batched-writer';
import { ChunkSender } from '@lambda-fleet/common/chunk-sender';
import {
  type AgentFrame,
  type AgentMessage,
  type ControlFrame,
  type ControlMessage,
  FleetServiceClient,
  type Hello,
  type InvocationRef,
  type PayloadChunk,
  type Welcome,
} from '@lambda-fleet/proto';
import { namedAs, type Replica } from './replica-list.js';

export interface SessionOptions {
  readonly replica: Replica;
  readonly credentials: ChannelCredentials;
  /** Asked once there is a connection. */
  readonly greeting: () => Greeting;
  /** For all of it: to connect, to greet and to be welcomed. */
  readonly welcomeDeadlineMs: number;
  readonly events: SessionEvents;
}

export interface Greeting {
  readonly hello: Hello;
  /** The replicas that this agent is linked to already. */
  readonly linked: readonly string[];
}

export interface SessionEvents {
  onWelcome(session: Session, welcome: Welcome): void;
  onMessage(session: Session, message: Exclude<ControlMessage['message'], undefined>): void;
  onPayloadChunk(chunk: PayloadChunk): void;
  /** Called exactly once, also when the connection never came about. */
  onClosed(session: Session, reason: string, end: SessionEnd): void;
}

type AgentStream = ClientDuplexStream<AgentFrame, ControlFrame>;

/**
 * `broke`: it was ready. Before: `unanswered`, nothing came in time; `linked`, the address leads to a replica that the agent is
 * linked to already; `unwelcome`, anything else.
 */
export type SessionEnd = 'broke' | 'unanswered' | 'linked' | 'unwelcome';

const QUEUED_BYTES_MAX = 32 * 1024 * 1024;
const FRAME_BYTES_MAX = 512 * 1024;

const CHANNEL_OPTIONS: ChannelOptions = {
  // The stream never ends: a retry buffer for it would only grow.
  'grpc.enable_retries': 0,
  'grpc.keepalive_time_ms': 10_000,
  'grpc.keepalive_timeout_ms': 5_000,
  'grpc.max_receive_message_length': 4 * 1024 * 1024,
};

/**
 * One connection to one control-plane replica: the Connect stream, and the
 * Transfer stream over a connection of its own.
 *
 * States: connecting → greeting (Hello sent) → ready (Welcome received, Transfer open) → closed.
 * Either stream's end is the session's end. A session is never reused.
 */
export class Session {
  #state: 'connecting' | 'greeting' | 'ready' | 'closed' = 'connecting';
  readonly #client: FleetServiceClient;
  readonly #bulkClient: FleetServiceClient;
  #connect: AgentStream | undefined;
  #transfer: AgentStream | undefined;
  readonly #writer: BatchedWriter<AgentMessage>;
  readonly #bodies = new ChunkSender(toResponseFrame);
  readonly #welcomeTimer: NodeJS.Timeout;

  constructor(private readonly options: SessionOptions) {
    const { replica, credentials } = options;
    const channel = { ...CHANNEL_OPTIONS, ...namedAs(replica) };
    this.#client = new FleetServiceClient(replica.address, credentials, channel);
    // Without a subchannel pool of its own this client would share the first one's connection.
    this.#bulkClient = new FleetServiceClient(replica.address, credentials, {
      ...channel,
      'grpc.use_local_subchannel_pool': 1,
    });
    this.#writer = new BatchedWriter<AgentMessage>({
      write: (messages) => this.#connect?.write({ messages }) === true,
      onOverflow: () => this.close('the control plane does not read its stream'),
      queuedBytesMax: QUEUED_BYTES_MAX,
      batchBytesMax: FRAME_BYTES_MAX,
    });
    this.#welcomeTimer = setTimeout(
      () => this.close('no Welcome', status.DEADLINE_EXCEEDED),
      options.welcomeDeadlineMs,
    );
    this.#greetOnceConnected();
  }

  get ready(): boolean {
    return this.#state === 'ready';
  }

  /** The client for bulk calls of this session. */
  get bulkClient(): FleetServiceClient {
    return this.#bulkClient;
  }

  send(message: AgentMessage, bytes: number): void {
    this.#writer.push(message, bytes);
  }

  sendBody(ref: InvocationRef, body: Buffer): void {
    this.#bodies.send(ref, body);
  }

  close(reason: string, code?: status): void {
    if (this.#state === 'closed') return;
    const end = this.#state === 'ready' ? 'broke' : endBeforeReady(code);
    this.#state = 'closed';
    clearTimeout(this.#welcomeTimer);
    this.#writer.close();
    this.#bodies.detach();
    this.#connect?.cancel();
    this.#transfer?.cancel();
    this.#client.close();
    this.#bulkClient.close();
    this.options.events.onClosed(this, reason, end);
  }

  /**
   * Hello says what runs now, and the control plane concludes what never arrived: it must not wait for a connection. One that
   * cannot be made is greeted as well, because only the stream says why it cannot.
   */
  #greetOnceConnected(): void {
    if (this.#state !== 'connecting') return;
    const state = this.#client.getChannel().getConnectivityState(true);
    if (state === connectivityState.READY || state === connectivityState.TRANSIENT_FAILURE) this.#greet(state);
    else this.#onceNot(state, () => this.#greetOnceConnected());
  }

  #greet(over: connectivityState): void {
    this.#state = 'greeting';
    const { hello, linked } = this.options.greeting();
    const metadata = new Metadata();
    for (const id of linked) metadata.add('lambda-linked', id);
    const stream = this.#client.connect(metadata);
    this.#connect = stream;
    stream.on('data', (frame: ControlFrame) => this.#receive(frame));
    stream.on('drain', () => this.#writer.drained());
    this.#closeWith(stream);
    this.send({ message: { $case: 'hello', value: hello } }, 1_024);
    // A stream that was not on its way yet would wait for the next connection, with a Hello that is old by then.
    this.#onceNot(over, () => {
      if (this.#state === 'greeting') this.close('the connection was lost before the Welcome');
    });
  }

  /** Calls back when the connection is in another state, not from within the library's own work on it. */
  #onceNot(state: connectivityState, then: () => void): void {
    this.#client.getChannel().watchConnectivityState(state, Number.POSITIVE_INFINITY, () => setImmediate(then));
  }

  #receive(frame: ControlFrame): void {
    for (const { message } of frame.messages) {
      if (this.#state === 'closed') return;
      // Of a newer control plane.
      if (message === undefined) continue;
      if (this.#state === 'greeting') {
        if (message.$case === 'welcome') this.#becomeReady(message.value);
        else this.close(`${message.$case} before Welcome`);
      } else {
        this.options.events.onMessage(this, message);
      }
    }
  }

  #becomeReady(welcome: Welcome): void {
    clearTimeout(this.#welcomeTimer);
    const metadata = new Metadata();
    metadata.set('lambda-session', welcome.sessionId);
    const transfer = this.#bulkClient.transfer(metadata);
    this.#transfer = transfer;
    this.#closeWith(transfer);
    transfer.on('data', (frame: ControlFrame) => {
      for (const { message } of frame.messages) {
        if (message?.$case === 'payloadChunk') this.options.events.onPayloadChunk(message.value);
        else this.close('only chunks travel on the Transfer stream');
      }
    });
    // An empty frame makes the server see the stream before the first body needs it.
    transfer.write({ messages: [] });
    this.#bodies.attach(transfer);
    this.#state = 'ready';
    this.options.events.onWelcome(this, welcome);
  }

  /** The end of a stream is the end of the session. */
  #closeWith(stream: AgentStream): void {
    stream.on('error', (err: Partial<ServiceError>) => this.close(err.message ?? 'an error', err.code));
    stream.on('end', () => this.close('the control plane ended the stream'));
  }
}

function endBeforeReady(code: status | undefined): SessionEnd {
  if (code === status.ALREADY_EXISTS) return 'linked';
  return code === status.DEADLINE_EXCEEDED ? 'unanswered' : 'unwelcome';
}

function toResponseFrame({ invocationId, epoch }: InvocationRef, data: Buffer): AgentFrame {
  return { messages: [{ message: { $case: 'responseChunk', value: { invocationId, epoch, data } } }] };
}
