import type { Duplex } from 'node:stream';
import type { Frame } from '../channel/frame.js';
import { ProtocolViolation } from '../channel/protocol-violation.js';
import { DATA_BYTES_MAX, dataHead, ID_BYTES, InitFrame, STREAMS_PER_SIDE, streamFrame } from './init-frame.js';
import { ProgramStream, ProgramStreamReset } from './program-stream.js';

/** Takes whole frames, or a head and the bytes that follow it. */
type Sent = (error?: Error | null) => void;

export interface StreamMultiplexerOptions {
  readonly channel: Duplex;
  /** The program connected to the Runtime API's port. */
  readonly accepted: (stream: Duplex) => void;
}

/**
 * The TCP connections of one sandbox, over its channel: those that its program opened, and those that the agent opened to it.
 *
 * Everything that arrives is claimed by code that may be hostile: what breaks a rule throws {@link ProtocolViolation}, and the owner ends the
 * sandbox. At most 64 connections of each kind are open, with at most 64 KiB under way in each direction, so memory is bounded whatever comes.
 */
export class StreamMultiplexer {
  readonly #streams = new Map<number, ProgramStream>();
  /** Connections that the agent asked for and that are not made yet. */
  readonly #opening = new Map<number, { readonly opened: () => void; readonly refused: () => void }>();
  #lastProgramId = -1;
  #lastOwnId = 0;
  #fromProgram = 0;
  #full = false;

  constructor(private readonly options: StreamMultiplexerOptions) {
    options.channel.on('drain', () => this.#drained());
  }

  /** Whether a frame of this type is for here. */
  static handles(type: number): boolean {
    return type >= InitFrame.OPEN && type <= InitFrame.OPENED;
  }

  /** Throws {@link ProtocolViolation}. */
  receive({ type, meta, body }: Frame): void {
    if (meta.length > 0) throw new ProtocolViolation('a frame of a stream has meta');
    if (body.length < ID_BYTES) throw new ProtocolViolation('a frame names no stream');
    const id = body.readUInt32BE(0);
    const rest = body.subarray(ID_BYTES);
    const expected = type === InitFrame.DATA ? Math.max(1, rest.length) : type === InitFrame.WINDOW ? 4 : 0;
    if (rest.length !== expected || rest.length > DATA_BYTES_MAX) {
      throw new ProtocolViolation(`a frame of type ${type} has a wrong length`);
    }
    if (type === InitFrame.OPEN) {
      this.#accept(id);
      return;
    }
    const wrong = this.#give(type, id, rest);
    if (wrong !== undefined) throw new ProtocolViolation(wrong);
  }

  /**
   * Connects to a port of the sandbox. With `wait` the init tries until the program listens there; aborting the signal gives up. Rejects
   * with {@link ProgramStreamReset} when it is refused, given up, or the sandbox ends.
   */
  connect(port: number, options: { readonly wait: boolean; readonly signal?: AbortSignal }): Promise<Duplex> {
    if (options.signal?.aborted === true || this.#streams.size - this.#fromProgram >= STREAMS_PER_SIDE) {
      return Promise.reject(new ProgramStreamReset());
    }
    this.#lastOwnId += 2;
    const id = this.#lastOwnId;
    const stream = this.#begin(id);
    return new Promise((resolve, reject) => {
      const giveUp = (): void => {
        stream.destroy();
      };
      const settle = (): void => {
        this.#opening.delete(id);
        options.signal?.removeEventListener('abort', giveUp);
      };
      options.signal?.addEventListener('abort', giveUp);
      this.#opening.set(id, {
        opened: () => {
          settle();
          resolve(stream);
        },
        refused: () => {
          settle();
          reject(new ProgramStreamReset());
        },
      });
      this.#write(
        streamFrame(InitFrame.AGENT_OPEN, id, 3, (frame, at) => {
          frame.writeUInt16BE(port, at);
          frame.writeUInt8(options.wait ? 1 : 0, at + 2);
        }),
      );
    });
  }

  /** The channel is gone: so are its streams. */
  close(): void {
    for (const [id, stream] of [...this.#streams]) {
      this.#forget(id);
      stream.receiveReset();
    }
  }

  #accept(id: number): void {
    if (id % 2 !== 1 || id <= this.#lastProgramId) throw new ProtocolViolation('OPEN has a wrong id');
    if (this.#fromProgram >= STREAMS_PER_SIDE) throw new ProtocolViolation('too many streams are open');
    this.#lastProgramId = id;
    this.#fromProgram += 1;
    this.options.accepted(this.#begin(id));
  }

  /** Returns what is wrong, or undefined. */
  #give(type: number, id: number, rest: Buffer): string | undefined {
    const stream = this.#streams.get(id);
    if (stream === undefined) {
      const last = id % 2 === 1 ? this.#lastProgramId : this.#lastOwnId;
      // One that is over: the frame crossed its end.
      return id > 0 && id <= last ? undefined : 'a frame names a stream that never was';
    }
    const opening = this.#opening.get(id);
    if (type === InitFrame.RESET) {
      this.#forget(id);
      stream.receiveReset();
      return undefined;
    }
    if (type === InitFrame.OPENED) {
      if (opening === undefined) return 'OPENED came for a stream that was open';
      opening.opened();
      return undefined;
    }
    if (opening !== undefined) return 'a frame came for a stream before OPENED';
    if (type === InitFrame.DATA) return stream.receive(rest);
    return type === InitFrame.END ? stream.receiveEnd() : stream.receiveWindow(rest.readUInt32BE(0));
  }

  #begin(id: number): ProgramStream {
    const stream: ProgramStream = new ProgramStream({
      data: (bytes, sent) => this.#writeData(id, bytes, sent),
      window: (bytes) =>
        this.#write(streamFrame(InitFrame.AGENT_WINDOW, id, 4, (frame, at) => frame.writeUInt32BE(bytes, at))),
      end: () => this.#write(streamFrame(InitFrame.AGENT_END, id)),
      over: (reset) => {
        this.#forget(id);
        if (reset) this.#write(streamFrame(InitFrame.AGENT_RESET, id));
      },
      ready: () => !this.#full,
    });
    // Always followed by 'close', and by the end of whatever uses the stream.
    stream.on('error', () => {});
    this.#streams.set(id, stream);
    return stream;
  }

  #forget(id: number): void {
    if (!this.#streams.delete(id)) return;
    if (id % 2 === 1) this.#fromProgram -= 1;
    this.#opening.get(id)?.refused();
  }

  #writeData(id: number, bytes: Buffer, sent: Sent | undefined): void {
    const { channel } = this.options;
    if (!channel.writable) return;
    channel.cork();
    channel.write(dataHead(id, bytes.length));
    this.#full = !channel.write(bytes, sent);
    channel.uncork();
  }

  #write(frame: Buffer): void {
    if (this.options.channel.writable) this.#full = !this.options.channel.write(frame);
  }

  #drained(): void {
    this.#full = false;
    for (const stream of this.#streams.values()) stream.channelDrained();
  }
}
