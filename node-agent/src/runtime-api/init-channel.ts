import { timingSafeEqual } from 'node:crypto';
import type { Duplex } from 'node:stream';
import { errorText } from '@lambda-fleet/common/errors';
import { ChannelClosed } from '../channel/conversation.js';
import { encodeHead, type Frame } from '../channel/frame.js';
import { FrameParser } from '../channel/frame-parser.js';
import { ProtocolViolation } from '../channel/protocol-violation.js';
import { ReadBudget } from '../channel/read-budget.js';
import { parseMeta, readHello } from '../channel/runtime-messages.js';
import { INIT_FRAME_LENGTH_MAX, InitFrame } from './init-frame.js';
import { encodeProgram, type Program } from './program.js';
import { StreamMultiplexer } from './stream-multiplexer.js';

/** Why a program could not be started: `errno` as Linux numbers it. */
export interface StartFailure {
  readonly step: 'port' | 'directory' | 'missing' | 'program';
  readonly errno: number;
}

export interface InitChannelListener {
  /** The program connected to the Runtime API's port. */
  accepted(stream: Duplex): void;
  /** Called once, when nothing more will come. */
  closed(violation: ProtocolViolation | undefined): void;
}

export interface InitChannelOptions {
  readonly stream: Duplex;
  readonly nonce: string;
  readonly helloDeadlineMs: number;
  readonly pingIntervalMs: number;
  readonly listener: InitChannelListener;
}

/**
 * A sandbox that sends more slows itself down. What a frame and a new connection cost the agent is counted as so many bytes, so that at
 * most a fifth of a processor is spent on one.
 */
const READ_LIMITS = { perSecond: 64 * 1024 * 1024, burst: 64 * 1024 * 1024 };
const FRAME_COST_BYTES = 512;
const CONNECTION_COST_BYTES = 32 * 1024;
const STEPS = [undefined, 'port', 'directory', 'missing', 'program'] as const;

type State = 'greeting' | 'blank' | 'starting' | 'running' | 'failed' | 'closed';

const NEXT: Readonly<Record<State, readonly State[]>> = {
  greeting: ['blank', 'closed'],
  blank: ['starting', 'closed'],
  starting: ['running', 'failed', 'closed'],
  running: ['closed'],
  failed: ['closed'],
  closed: [],
};

/**
 * The agent's side of the channel to a static init: which frames may come when.
 *
 * - greeting: connected; only HELLO with the sandbox's nonce may come, once, in time → blank.
 * - blank: authenticated, no program. `start` sends INIT → starting.
 * - starting: STARTED → running; NOT_STARTED → failed.
 * - running: frames of streams come and go.
 * - failed: nothing more may come; the owner closes.
 * - closed: the channel is gone, and all streams with it.
 *
 * PONG may come once for each PING. Anything else is a violation, which closes the channel at once.
 */
export class InitChannel {
  /** Resolves with HELLO; rejects with {@link ChannelClosed}. */
  readonly hello: Promise<void>;
  readonly #stream: Duplex;
  readonly #nonce: Buffer;
  readonly #parser: FrameParser;
  readonly #streams: StreamMultiplexer;
  readonly #reads: ReadBudget;
  readonly #helloTimer: NodeJS.Timeout;
  readonly #pingTimer: NodeJS.Timeout;
  #state: State = 'greeting';
  #greet: () => void = () => {};
  #rejectHello: (reason: Error) => void = () => {};
  #starting:
    | { readonly resolve: (failure: StartFailure | undefined) => void; readonly reject: (reason: Error) => void }
    | undefined;
  #pingsUnanswered = 0;
  #frozen = false;
  #violation: ProtocolViolation | undefined;

  constructor(private readonly options: InitChannelOptions) {
    this.#stream = options.stream;
    this.#nonce = Buffer.from(options.nonce);
    this.#parser = new FrameParser((frame) => this.#receive(frame), INIT_FRAME_LENGTH_MAX);
    this.#streams = new StreamMultiplexer({
      channel: options.stream,
      accepted: (stream) => options.listener.accepted(stream),
    });
    this.#reads = new ReadBudget({
      ...READ_LIMITS,
      pause: () => this.#stream.pause(),
      resume: () => this.#stream.resume(),
    });
    this.hello = new Promise((resolve, reject) => {
      this.#greet = resolve;
      this.#rejectHello = reject;
    });
    // Whoever waits is told; nobody may be.
    this.hello.catch(() => {});
    this.#helloTimer = setTimeout(
      () => this.violate(new ProtocolViolation('no HELLO came in time')),
      options.helloDeadlineMs,
    );
    this.#pingTimer = setInterval(() => this.#ping(), options.pingIntervalMs);
    this.#stream.on('data', (chunk: Buffer) => this.#feed(chunk));
    // An error is always followed by 'close', which is what ends the channel.
    this.#stream.on('error', () => {});
    this.#stream.on('close', () => this.#close());
  }

  /** Undefined while it is open, or when the init hung up. */
  get violation(): ProtocolViolation | undefined {
    return this.#violation;
  }

  /** Starts the program. Resolves with why it could not be, or undefined. `about` is for people. Rejects with {@link ChannelClosed}. Once. */
  start(program: Program, about: object): Promise<StartFailure | undefined> {
    const body = encodeProgram(program);
    this.#enter('starting');
    const started = new Promise<StartFailure | undefined>((resolve, reject) => {
      this.#starting = { resolve, reject };
    });
    this.#stream.write(Buffer.concat([encodeHead(InitFrame.AGENT_INIT, about, body.length), body]));
    return started;
  }

  /** See {@link StreamMultiplexer.connect}; only while the program runs. */
  connect(port: number, options: { readonly wait: boolean; readonly signal?: AbortSignal }): Promise<Duplex> {
    if (this.#state !== 'running') return Promise.reject(new ChannelClosed(this.#violation));
    return this.#streams.connect(port, options);
  }

  /** Something that came was as expensive as so many bytes. */
  charge(bytes: number): void {
    this.#reads.spend(bytes);
  }

  /** While the sandbox is frozen no PING is sent to it. */
  setFrozen(frozen: boolean): void {
    this.#frozen = frozen;
  }

  /** Closes the channel because the program broke a rule. */
  violate(violation: ProtocolViolation): void {
    this.#violation ??= violation;
    this.close();
  }

  /** Ends the channel from our side; the init ends when it notices. */
  close(): void {
    this.#stream.destroy();
    this.#close();
  }

  #enter(state: State): void {
    if (!NEXT[this.#state].includes(state)) {
      if (this.#state === 'closed') throw new ChannelClosed(this.#violation);
      throw new Error(`a channel to an init cannot go from ${this.#state} to ${state}`);
    }
    this.#state = state;
  }

  #feed(chunk: Buffer): void {
    this.#reads.spend(chunk.length);
    try {
      this.#parser.push(chunk);
    } catch (err) {
      // Whatever a frame brings about ends its sandbox alone: thrown on, it would end the agent.
      this.violate(
        err instanceof ProtocolViolation ? err : new ProtocolViolation(`a frame cannot be read: ${errorText(err)}`),
      );
    }
  }

  /** False once the channel is closed: what else the chunk holds is not looked at. */
  #receive(frame: Frame): boolean {
    this.#reads.spend(frame.type === InitFrame.OPEN ? CONNECTION_COST_BYTES : FRAME_COST_BYTES);
    switch (frame.type) {
      case InitFrame.HELLO:
        this.#receiveHello(frame);
        break;
      case InitFrame.PONG:
        if (frame.meta.length + frame.body.length > 0) throw new ProtocolViolation('PONG is not empty');
        if (this.#pingsUnanswered === 0) throw new ProtocolViolation('PONG came without a PING');
        this.#pingsUnanswered -= 1;
        break;
      case InitFrame.STARTED:
        expectBody(frame, 2);
        this.#takeStarting('STARTED', 'running').resolve(undefined);
        break;
      case InitFrame.NOT_STARTED:
        this.#receiveNotStarted(frame);
        break;
      default:
        if (!StreamMultiplexer.handles(frame.type)) {
          throw new ProtocolViolation(`a frame has the unknown type ${frame.type}`);
        }
        if (this.#state !== 'running')
          throw new ProtocolViolation("a stream's frame came before the program was started");
        this.#streams.receive(frame);
    }
    return this.#state !== 'closed';
  }

  #receiveHello(frame: Frame): void {
    if (this.#state !== 'greeting') throw new ProtocolViolation('HELLO came twice');
    const hello = readHello(parseMeta(frame.meta), ['provided']);
    const claimed = Buffer.from(hello.nonce);
    if (claimed.length !== this.#nonce.length || !timingSafeEqual(claimed, this.#nonce)) {
      throw new ProtocolViolation('HELLO has the wrong nonce');
    }
    clearTimeout(this.#helloTimer);
    this.#enter('blank');
    this.#greet();
  }

  #receiveNotStarted(frame: Frame): void {
    expectBody(frame, 5);
    const step = STEPS[frame.body.readUInt8(0)];
    if (step === undefined) throw new ProtocolViolation('NOT_STARTED names no step');
    this.#takeStarting('NOT_STARTED', 'failed').resolve({ step, errno: frame.body.readUInt32BE(1) });
  }

  #takeStarting(name: string, next: State) {
    const waiter = this.#starting;
    if (waiter === undefined) throw new ProtocolViolation(`${name} came when no INIT was waiting for it`);
    this.#starting = undefined;
    this.#enter(next);
    return waiter;
  }

  #ping(): void {
    // An init that does not even read gets no second PING on top of the first.
    if (this.#frozen || this.#state === 'greeting' || this.#stream.writableNeedDrain) return;
    this.#pingsUnanswered += 1;
    this.#stream.write(EMPTY_PING);
  }

  #close(): void {
    if (this.#state === 'closed') return;
    this.#enter('closed');
    this.#reads.lift();
    clearTimeout(this.#helloTimer);
    clearInterval(this.#pingTimer);
    const reason = new ChannelClosed(this.#violation);
    this.#rejectHello(reason);
    this.#starting?.reject(reason);
    this.#starting = undefined;
    this.#streams.close();
    this.options.listener.closed(this.#violation);
  }
}

const EMPTY_PING = Buffer.from([0, 0, 0, 5, InitFrame.AGENT_PING, 0, 0, 0, 0]);

function expectBody({ meta, body }: Frame, bytes: number): void {
  if (meta.length > 0 || body.length !== bytes) throw new ProtocolViolation('a frame of the init has a wrong length');
}
