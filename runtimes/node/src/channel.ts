import type { Socket } from 'node:net';
import { encodeFrame, FrameType } from './frames.js';
import { monotonicNow, now, sleepBlocking, slice, writeFd } from './intrinsics.js';
import type { ChannelStreams } from './open-channel.js';

/**
 * How long a log line waits, blocking, for an agent that does not read. One that reads slowly, as it does when it is
 * flooded, leaves more than a second between two reads where buffers of the engine lie in between.
 */
const LOG_WAIT_MS = 5_000;
/** How often a log line looks for room after one waited in vain: looking costs more than dropping. */
const LOG_RETRY_MS = 10;
/** How long the last frame before an exit waits. */
const LAST_FRAME_WAIT_MS = 2_000;
/** Log bytes that may queue behind a frame that is still leaving. */
const LOG_QUEUE_BYTES_MAX = 1024 * 1024;

/**
 * The sending half of the channel.
 *
 * Frames are written to the stream's descriptor at once, in the same turn, so that a
 * line logged before an endless loop, a crash or `process.exit` still reaches the
 * agent. Nothing is queued in memory while the agent reads.
 *
 * The descriptor, a socket or a pipe, does not block, because a stream holds it. When
 * it is full, frames are treated by what they are:
 * - a log line blocks the process up to five seconds (the back-pressure that a full pipe
 *   gives too), then it and all that follow are dropped and counted until there is
 *   room again; a marker line then says how many;
 * - any other frame is handed to the stream, which sends it when the agent reads.
 *
 * `#rest` is the unsent end of a log frame that was begun: whatever is sent next goes behind it.
 */
export class Channel {
  readonly #incoming: Socket;
  readonly #outgoing: Socket;
  readonly #fd: number;
  #rest: Buffer | undefined;
  /** Frames that the stream holds; while there are any, the descriptor must not be written. */
  #queued = 0;
  /** When a log line may next look for room, after one found none; 0 while there is room. */
  #retryAt = 0;
  #dropped = 0;
  #droppedId = 'null';

  constructor({ incoming, outgoing }: ChannelStreams) {
    this.#incoming = incoming;
    this.#outgoing = outgoing;
    this.#fd = descriptorOf(outgoing);
  }

  /** Sends a frame that must arrive. */
  send(frame: Buffer): void {
    if (this.#dropped > 0) {
      this.#enqueue(this.#takeMarker());
    }
    this.#enqueue(frame);
  }

  /** Sends one of the last frames before the process exits; waits, bounded, until it is out. False when nothing more can leave. */
  sendLast(frame: Buffer): boolean {
    return (
      this.#queued === 0 &&
      this.#flushRest(LAST_FRAME_WAIT_MS) &&
      this.#flushMarker(LAST_FRAME_WAIT_MS) &&
      this.#write(frame, LAST_FRAME_WAIT_MS) === frame.length
    );
  }

  /** `id`, `stream` and `level` are JSON text or plain names that need no escape; `line` holds no line break. */
  log(id: string, stream: string, level: string, line: string): void {
    if (this.#retryAt > 0 && monotonicNow() < this.#retryAt) {
      this.#drop(id);
      return;
    }
    const frame = logFrame(id, stream, level, line);
    if (this.#queued > 0) {
      if (this.#outgoing.writableLength + frame.length > LOG_QUEUE_BYTES_MAX) {
        this.#drop(id);
      } else {
        this.send(frame);
      }
      return;
    }
    const waitMs = this.#retryAt > 0 ? 0 : LOG_WAIT_MS;
    const sent = this.#flushRest(waitMs) && this.#flushMarker(waitMs) ? this.#write(frame, waitMs) : 0;
    this.#retryAt = sent < frame.length ? monotonicNow() + LOG_RETRY_MS : 0;
    if (sent === 0) {
      this.#drop(id);
    } else if (sent < frame.length) {
      this.#rest = slice(frame, sent);
    }
  }

  /** Whether the channel alone keeps the process alive. */
  holdOpen(hold: boolean): void {
    if (hold) {
      this.#incoming.ref();
    } else {
      this.#incoming.unref();
    }
  }

  #enqueue(frame: Buffer): void {
    if (this.#queued === 0 && this.#flushRest(0)) {
      const sent = this.#write(frame, 0);
      if (sent < frame.length) {
        this.#handOver(slice(frame, sent));
      }
      return;
    }
    if (this.#rest !== undefined) {
      this.#handOver(this.#rest);
      this.#rest = undefined;
    }
    this.#handOver(frame);
  }

  #handOver(bytes: Buffer): void {
    this.#queued += 1;
    this.#outgoing.write(bytes, () => {
      this.#queued -= 1;
    });
  }

  /** True when nothing is left over from an earlier frame. */
  #flushRest(waitMs: number): boolean {
    const rest = this.#rest;
    if (rest === undefined) {
      return true;
    }
    const sent = this.#write(rest, waitMs);
    this.#rest = sent === rest.length ? undefined : slice(rest, sent);
    return this.#rest === undefined;
  }

  /** True when no dropped line is unreported. */
  #flushMarker(waitMs: number): boolean {
    if (this.#dropped > 0) {
      this.#rest = this.#takeMarker();
    }
    return this.#flushRest(waitMs);
  }

  /** Bytes written before the descriptor stayed full for `waitMs`. A broken channel takes everything: its close event ends the process. */
  #write(bytes: Buffer, waitMs: number): number {
    let sent = 0;
    let giveUpAt = 0;
    while (sent < bytes.length) {
      try {
        sent += writeFd(this.#fd, bytes, sent, bytes.length - sent);
        giveUpAt = 0;
      } catch (thrown) {
        if ((thrown as NodeJS.ErrnoException).code !== 'EAGAIN') {
          return bytes.length;
        }
        giveUpAt ||= monotonicNow() + waitMs;
        if (monotonicNow() >= giveUpAt) {
          return sent;
        }
        sleepBlocking(1);
      }
    }
    return sent;
  }

  #drop(id: string): void {
    this.#dropped += 1;
    this.#droppedId = id;
  }

  #takeMarker(): Buffer {
    const text = `[... ${this.#dropped} lines dropped]`;
    this.#dropped = 0;
    return logFrame(this.#droppedId, 'stderr', 'WARN', text);
  }
}

function logFrame(id: string, stream: string, level: string, line: string): Buffer {
  return encodeFrame(FrameType.LOG, `{"id":${id},"stream":"${stream}","level":"${level}","ts":${now()}}`, line);
}

/**
 * Node has no public way to the descriptor of a stream on a socket or pipe; its handle has
 * carried it as `fd` on every POSIX system since the first releases.
 */
function descriptorOf(socket: Socket): number {
  const { _handle: handle } = socket as unknown as { readonly _handle: { readonly fd: number } | null };
  if (handle === null || !(handle.fd >= 0)) {
    throw new Error('the connected channel has no file descriptor');
  }
  return handle.fd;
}
