import { timingSafeEqual } from 'node:crypto';
import type { Duplex } from 'node:stream';
import { errorText } from '@lambda-fleet/common/errors';
import { type CompiledFile, CompiledFiles } from './compiled-files.js';
import { encodeHead, type Frame, FrameType } from './frame.js';
import { FrameParser } from './frame-parser.js';
import { ProtocolViolation } from './protocol-violation.js';
import { KEPT_LINE_LIMITS, ReadBudgets } from './read-budgets.js';
import type { RuntimeConversation } from './runtime-conversation.js';
import {
  type CodeLocation,
  type HelloMessage,
  type HttpHead,
  type LogMessage,
  parseMeta,
  type RuntimeError,
  type RuntimeFailure,
  readError,
  readFailure,
  readHello,
  readHttpHead,
  readLocation,
  readLog,
} from './runtime-messages.js';

export interface InitMessage {
  readonly handler: string;
  readonly functionName: string;
  readonly functionVersion: string;
  readonly functionArn: string;
  readonly memoryMb: number;
  readonly timeoutMs: number;
  readonly environment: Readonly<Record<string, string>>;
  readonly logGroup: string;
  readonly logStream: string;
  /** Invocations at a time, at least 1. */
  readonly concurrency: number;
  /** Empty, or `vm` for a job's source text. */
  readonly realm: string;
}

export interface InvokeMessage {
  readonly id: string;
  /** Epoch milliseconds. */
  readonly deadlineMs: number;
  readonly arn: string;
  readonly traceId: string;
  readonly clientContext: string;
  readonly http: boolean;
}

export type InitResult =
  | { readonly ready: true }
  | { readonly ready: false; readonly error: RuntimeError; readonly location: CodeLocation | undefined };

export type InvokeResult =
  | { readonly kind: 'response'; readonly body: Buffer; readonly http: HttpHead | undefined }
  | { readonly kind: 'error'; readonly error: RuntimeFailure };

/** The conversation ended before an answer came: the runtime hung up, or broke the protocol. */
export class ChannelClosed extends Error {
  override readonly name = 'ChannelClosed';

  constructor(
    readonly violation: ProtocolViolation | undefined,
    /** False when it is certain that nothing of what was to be sent has reached the runtime. */
    readonly entered = true,
  ) {
    super(violation === undefined ? 'the runtime closed the channel' : violation.message);
  }
}

export interface ConversationListener {
  /** False drops a line unread: the meta of a flood is not worth parsing. */
  wantsLog(bytes: number): boolean;
  /** Whether the line was kept. */
  log(message: LogMessage, text: Buffer): boolean;
  /** Called once, when nothing more will come. */
  closed(violation: ProtocolViolation | undefined): void;
}

export interface ConversationOptions {
  /** What the runtime sends and receives; its 'close' ends the conversation. */
  readonly stream: Duplex;
  readonly nonce: string;
  readonly helloDeadlineMs: number;
  readonly pingIntervalMs: number;
}

/**
 * A runtime that sends more slows itself down. Costs are bytes: waking up for a read takes the agent about as long as 8 KB of
 * body (without it, a writer of single lines is read line by line, at a third of a processor), looking at a frame as half a
 * kilobyte, and reading what a log line says of itself as one and a half. That is 100,000 dropped lines a second.
 */
const READ_COST_BYTES = 8 * 1024;
const FRAME_COST_BYTES = 512;
const PARSED_LINE_COST_BYTES = 1_536;
/** A burst of one of the largest frames. */
const READ_LIMITS = { perSecond: 64 * 1024 * 1024, burst: 8 * 1024 * 1024 };
const NEWLINE = 0x0a;

type State = 'greeting' | 'blank' | 'initialising' | 'serving' | 'compiling' | 'closed';

const NEXT: Readonly<Record<State, readonly State[]>> = {
  greeting: ['blank', 'closed'],
  blank: ['initialising', 'compiling', 'closed'],
  initialising: ['serving', 'closed'],
  serving: ['closed'],
  compiling: ['closed'],
  closed: [],
};

interface Waiter<T> {
  readonly resolve: (value: T) => void;
  readonly reject: (reason: Error) => void;
}

interface InFlight extends Waiter<InvokeResult> {
  readonly http: boolean;
}

/**
 * The agent's side of one channel: what may be said when.
 *
 * - greeting: connected; only HELLO with the sandbox's nonce may come, once, in time → blank.
 * - blank: authenticated, no code. `init` sends INIT → initialising.
 * - initialising: READY → serving; INIT_ERROR → closed by the owner, nothing else is accepted.
 * - serving: `invoke` sends INVOKE; up to INIT's `concurrency` are in flight, each until the RESPONSE or ERROR with its id.
 * - compiling: entered by `compile` from blank; COMPILED until the last of them, after which the owner closes.
 * - closed: the stream is gone. Whatever waits is rejected with {@link ChannelClosed}.
 *
 * LOG is accepted from INIT on, PONG once for each PING; anything else that does not fit its state is a violation, which
 * closes the conversation at once.
 */
export class Conversation implements RuntimeConversation {
  readonly #stream: Duplex;
  readonly #parser: FrameParser;
  readonly #nonce: Buffer;
  readonly #hello: Promise<HelloMessage>;
  readonly #helloTimer: NodeJS.Timeout;
  readonly #pingTimer: NodeJS.Timeout;
  #listener: ConversationListener | undefined;
  #state: State = 'greeting';
  #helloWaiter: Waiter<HelloMessage> | undefined;
  #initWaiter: Waiter<InitResult> | undefined;
  #compiling: CompiledFiles | undefined;
  readonly #inFlight = new Map<string, InFlight>();
  #concurrency = 0;
  #frozen = false;
  #violation: ProtocolViolation | undefined;
  #pingsUnanswered = 0;
  readonly #reads: ReadBudgets<'bytes' | 'kept lines'>;

  constructor(options: ConversationOptions) {
    this.#stream = options.stream;
    this.#nonce = Buffer.from(options.nonce);
    this.#parser = new FrameParser((frame) => this.#receive(frame));
    this.#reads = new ReadBudgets(this.#stream, { bytes: READ_LIMITS, 'kept lines': KEPT_LINE_LIMITS });
    this.#hello = new Promise((resolve, reject) => {
      this.#helloWaiter = { resolve, reject };
    });
    this.#hello.catch(() => {});
    this.#helloTimer = setTimeout(
      () => this.#violate(new ProtocolViolation('no HELLO came in time')),
      options.helloDeadlineMs,
    );
    this.#pingTimer = setInterval(() => this.#ping(), options.pingIntervalMs);
    this.#stream.on('data', (chunk) => this.#feed(chunk));
    // An error is always followed by 'close', which is what ends the conversation.
    this.#stream.on('error', () => {});
    this.#stream.on('close', () => this.#close());
  }

  /** The runtime's greeting; rejects with {@link ChannelClosed}. */
  get hello(): Promise<HelloMessage> {
    return this.#hello;
  }

  /** At most one listener; frames before it is set are not reported. */
  listen(listener: ConversationListener): void {
    this.#listener = listener;
    if (this.#state === 'closed') listener.closed(this.#violation);
  }

  init(message: InitMessage): Promise<InitResult> {
    this.#enter('initialising');
    this.#concurrency = message.concurrency;
    const result = new Promise<InitResult>((resolve, reject) => {
      this.#initWaiter = { resolve, reject };
    });
    this.#stream.write(encodeHead(FrameType.INIT, message, 0));
    return result;
  }

  /** Has the code compiled and none of it run. Instead of `init`; nothing else can be asked of the runtime afterwards. */
  compile(): Promise<readonly CompiledFile[]> {
    this.#enter('compiling');
    this.#compiling = new CompiledFiles();
    this.#stream.write(encodeHead(FrameType.COMPILE, {}, 0));
    return this.#compiling.all;
  }

  /**
   * Sends one event and resolves with its result. `written` is called when the stream has taken all of it;
   * an event larger than its buffers waits for the runtime to read. Rejects with {@link ChannelClosed}. Throws when as many
   * as INIT allows are in flight.
   */
  invoke(message: InvokeMessage, event: Buffer, written: () => void): Promise<InvokeResult> {
    const head = encodeHead(FrameType.INVOKE, message, event.length);
    this.#expectRoom(message.id);
    const result = new Promise<InvokeResult>((resolve, reject) => {
      this.#inFlight.set(message.id, { resolve, reject, http: message.http });
    });
    // One writev for both; the event is not copied.
    this.#stream.cork();
    this.#stream.write(head);
    this.#stream.write(event, (err) => {
      if (err === null || err === undefined) written();
    });
    this.#stream.uncork();
    return result;
  }

  /** A frozen runtime answers no PING, and does not count the seconds without one either. */
  setFrozen(frozen: boolean): void {
    this.#frozen = frozen;
  }

  /** Ends the conversation from our side; the runtime exits when it notices. */
  close(): void {
    this.#stream.destroy();
    this.#close();
  }

  #enter(state: State): void {
    if (this.#state === state) return;
    if (!NEXT[this.#state].includes(state)) {
      if (this.#state === 'closed') throw new ChannelClosed(this.#violation);
      throw new Error(`a conversation cannot go from ${this.#state} to ${state}`);
    }
    this.#state = state;
  }

  #expectRoom(id: string): void {
    if (this.#state === 'closed') throw new ChannelClosed(this.#violation);
    if (this.#state !== 'serving') throw new Error(`an invocation cannot be sent while ${this.#state}`);
    if (this.#inFlight.size >= this.#concurrency) throw new Error(`${this.#concurrency} invocations are in flight`);
    if (this.#inFlight.has(id)) throw new Error(`invocation ${id} is in flight already`);
  }

  #feed(chunk: Buffer): void {
    this.#reads.spend('bytes', READ_COST_BYTES + chunk.length);
    try {
      this.#parser.push(chunk);
    } catch (err) {
      // Whatever a frame brings about ends its sandbox alone: thrown on, it would end the agent.
      this.#violate(
        err instanceof ProtocolViolation ? err : new ProtocolViolation(`a frame cannot be read: ${errorText(err)}`),
      );
    }
  }

  /** False once the conversation is closed: what else the chunk holds is not looked at. */
  #receive(frame: Frame): boolean {
    this.#reads.spend('bytes', FRAME_COST_BYTES);
    switch (frame.type) {
      case FrameType.LOG:
        this.#receiveLog(frame);
        break;
      case FrameType.RESPONSE:
        this.#receiveResponse(frame);
        break;
      case FrameType.ERROR:
        this.#receiveError(frame);
        break;
      case FrameType.HELLO:
        this.#receiveHello(frame);
        break;
      case FrameType.READY:
        this.#takeInitWaiter('READY', 'serving').resolve({ ready: true });
        break;
      case FrameType.INIT_ERROR: {
        const meta = parseMeta(frame.meta);
        const result = { ready: false as const, error: readError(meta), location: readLocation(meta) };
        this.#takeInitWaiter('INIT_ERROR', 'initialising').resolve(result);
        break;
      }
      case FrameType.COMPILED:
        this.#receiveCompiled(frame);
        break;
      case FrameType.PONG:
        if (this.#pingsUnanswered === 0) throw new ProtocolViolation('PONG came without a PING');
        this.#pingsUnanswered -= 1;
        break;
      default:
        throw new ProtocolViolation(`a frame has the unknown type ${frame.type}`);
    }
    return this.#state !== 'closed';
  }

  #receiveHello(frame: Frame): void {
    if (this.#state !== 'greeting') throw new ProtocolViolation('HELLO came twice');
    const hello = readHello(parseMeta(frame.meta), ['nodejs', 'python']);
    const claimed = Buffer.from(hello.nonce);
    if (claimed.length !== this.#nonce.length || !timingSafeEqual(claimed, this.#nonce)) {
      throw new ProtocolViolation('HELLO has the wrong nonce');
    }
    clearTimeout(this.#helloTimer);
    this.#enter('blank');
    this.#helloWaiter?.resolve(hello);
    this.#helloWaiter = undefined;
  }

  #takeInitWaiter(name: string, next: State): Waiter<InitResult> {
    const waiter = this.#initWaiter;
    if (waiter === undefined) throw new ProtocolViolation(`${name} came when no INIT was waiting for it`);
    this.#initWaiter = undefined;
    this.#enter(next);
    return waiter;
  }

  #receiveCompiled(frame: Frame): void {
    const compiling = this.#compiling;
    if (compiling === undefined) throw new ProtocolViolation('COMPILED came when nothing was being compiled');
    if (compiling.receive(parseMeta(frame.meta), frame.body)) this.#compiling = undefined;
  }

  #receiveResponse(frame: Frame): void {
    const meta = parseMeta(frame.meta);
    const [id, invoke] = this.#expectInFlight(meta.id);
    const http = invoke.http ? readHttpHead(meta) : undefined;
    this.#inFlight.delete(id);
    invoke.resolve({ kind: 'response', body: compact(frame.body), http });
  }

  #receiveError(frame: Frame): void {
    const meta = parseMeta(frame.meta);
    const [id, invoke] = this.#expectInFlight(meta.id);
    const error = readFailure(meta);
    this.#inFlight.delete(id);
    invoke.resolve({ kind: 'error', error });
  }

  /** It stays in flight until its result has been read: a malformed one rejects it. */
  #expectInFlight(id: unknown): readonly [string, InFlight] {
    if (this.#inFlight.size === 0) throw new ProtocolViolation('a result came when nothing was running');
    const invoke = typeof id === 'string' ? this.#inFlight.get(id) : undefined;
    if (typeof id !== 'string' || invoke === undefined) {
      throw new ProtocolViolation('a result names another invocation');
    }
    return [id, invoke];
  }

  #receiveLog(frame: Frame): void {
    if (this.#state !== 'initialising' && this.#state !== 'serving') {
      throw new ProtocolViolation(`LOG came while ${this.#state}`);
    }
    if (this.#listener?.wantsLog(frame.body.length) !== true) return;
    this.#reads.spend('bytes', PARSED_LINE_COST_BYTES);
    // Printed, it would look like two lines, the second one of the platform's own making.
    if (frame.body.includes(NEWLINE)) throw new ProtocolViolation('LOG holds more than one line');
    if (this.#listener.log(readLog(parseMeta(frame.meta)), frame.body)) this.#reads.spend('kept lines', 1);
  }

  #ping(): void {
    // A runtime that does not even read gets no second ping on top of the first.
    if (this.#state !== 'greeting' && !this.#frozen && !this.#stream.writableNeedDrain) {
      this.#pingsUnanswered += 1;
      this.#stream.write(encodeHead(FrameType.PING, {}, 0));
    }
  }

  #violate(violation: ProtocolViolation): void {
    this.#violation = violation;
    this.close();
  }

  #close(): void {
    if (this.#state === 'closed') return;
    this.#enter('closed');
    this.#reads.lift();
    clearTimeout(this.#helloTimer);
    clearInterval(this.#pingTimer);
    const reason = new ChannelClosed(this.#violation);
    const waiters = [this.#helloWaiter, this.#initWaiter, this.#compiling, ...this.#inFlight.values()];
    for (const waiter of waiters) waiter?.reject(reason);
    this.#helloWaiter = undefined;
    this.#initWaiter = undefined;
    this.#compiling = undefined;
    this.#inFlight.clear();
    this.#listener?.closed(this.#violation);
  }
}

/** A result is kept until it is acknowledged: a small one must not keep the whole chunk that it came in. */
function compact(body: Buffer): Buffer {
  return body.length * 2 < body.buffer.byteLength ? Buffer.from(body) : body;
}
