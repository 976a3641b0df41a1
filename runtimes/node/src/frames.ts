import {
  allocate,
  byteLength,
  copyBytes,
  parseJson,
  readU32,
  slice,
  textOf,
  writeText,
  writeU32,
} from './intrinsics.js';

/** Bytes after the length field. */
const FRAME_BYTES_MIN = 5;
const FRAME_BYTES_MAX = 7 * 1024 * 1024;
export const META_BYTES_MAX = 256 * 1024;

export const FrameType = {
  HELLO: 0x01,
  READY: 0x02,
  INIT_ERROR: 0x03,
  RESPONSE: 0x04,
  ERROR: 0x05,
  LOG: 0x06,
  PONG: 0x07,
  COMPILED: 0x08,
  INIT: 0x81,
  INVOKE: 0x82,
  PING: 0x83,
  COMPILE: 0x84,
} as const;

export type FrameType = (typeof FrameType)[keyof typeof FrameType];

export interface Frame {
  readonly type: number;
  readonly meta: Readonly<Record<string, unknown>>;
  /** A view of received bytes, not a copy. */
  readonly body: Buffer;
}

/** The agent sent something that PROTOCOL.md does not allow. */
export class ProtocolViolation extends Error {
  override readonly name = 'ProtocolViolation';
}

export type BodyEncoding = 'utf8' | 'base64';

/**
 * One frame in one buffer: the body's text is encoded straight into its place,
 * so a large response is written once. `meta` is JSON text; a `base64` body is decoded.
 */
export function encodeFrame(type: FrameType, meta: string, body = '', encoding: BodyEncoding = 'utf8'): Buffer {
  const metaBytes = byteLength(meta);
  const bodyBytes = body === '' ? 0 : byteLength(body, encoding);
  const frame = allocate(9 + metaBytes + bodyBytes);
  writeU32(frame, 5 + metaBytes + bodyBytes, 0);
  frame[4] = type;
  writeU32(frame, metaBytes, 5);
  writeText(frame, meta, 9, 'utf8');
  if (bodyBytes > 0) {
    writeText(frame, body, 9 + metaBytes, encoding);
  }
  return frame;
}

/** One frame with bytes as its body. `meta` is JSON text. */
export function encodeBytes(type: FrameType, meta: string, body: Buffer): Buffer {
  const metaBytes = byteLength(meta);
  const frame = allocate(9 + metaBytes + body.length);
  writeU32(frame, 5 + metaBytes + body.length, 0);
  frame[4] = type;
  writeU32(frame, metaBytes, 5);
  writeText(frame, meta, 9, 'utf8');
  copyBytes(body, frame, 9 + metaBytes);
  return frame;
}

/** Cuts a byte stream into frames. Frames that arrive whole are not copied. */
export class FrameReader {
  /** Fewer than four bytes of a length field. */
  #head: Buffer | undefined;
  /** A frame whose bytes are still arriving, and how many of them are here. */
  #partial: { readonly bytes: Buffer; filled: number } | undefined;

  constructor(private readonly onFrame: (frame: Frame) => void) {}

  /** @throws ProtocolViolation */
  push(received: Buffer): void {
    let chunk = received;
    if (this.#head !== undefined) {
      chunk = joined(this.#head, received);
      this.#head = undefined;
    }
    let at = 0;
    while (at < chunk.length) {
      if (this.#partial !== undefined) {
        at += this.#fill(this.#partial, chunk, at);
        continue;
      }
      if (chunk.length - at < 4) {
        this.#head = joined(slice(chunk, at), allocate(0));
        return;
      }
      const length = readU32(chunk, at);
      if (length < FRAME_BYTES_MIN || length > FRAME_BYTES_MAX) {
        throw new ProtocolViolation(`a frame of ${length} bytes`);
      }
      at += 4;
      if (chunk.length - at >= length) {
        this.onFrame(decode(slice(chunk, at, at + length)));
        at += length;
      } else {
        this.#partial = { bytes: allocate(length), filled: 0 };
      }
    }
  }

  #fill(partial: { readonly bytes: Buffer; filled: number }, chunk: Buffer, at: number): number {
    const copied = copyBytes(chunk, partial.bytes, partial.filled, at);
    partial.filled += copied;
    if (partial.filled === partial.bytes.length) {
      this.#partial = undefined;
      this.onFrame(decode(partial.bytes));
    }
    return copied;
  }
}

function decode(bytes: Buffer): Frame {
  const metaBytes = readU32(bytes, 1);
  if (metaBytes > META_BYTES_MAX || metaBytes > bytes.length - FRAME_BYTES_MIN) {
    throw new ProtocolViolation(`${metaBytes} bytes of meta in a frame of ${bytes.length}`);
  }
  const metaEnd = FRAME_BYTES_MIN + metaBytes;
  return { type: bytes[0] ?? 0, meta: decodeMeta(bytes, metaEnd), body: slice(bytes, metaEnd) };
}

function decodeMeta(bytes: Buffer, end: number): Record<string, unknown> {
  if (end === FRAME_BYTES_MIN) {
    return {};
  }
  let meta: unknown;
  try {
    meta = parseJson(textOf(bytes, 'utf8', FRAME_BYTES_MIN, end));
  } catch {
    throw new ProtocolViolation('meta that is not JSON');
  }
  if (typeof meta !== 'object' || meta === null || Array.isArray(meta)) {
    throw new ProtocolViolation('meta that is not a JSON object');
  }
  return meta as Record<string, unknown>;
}

function joined(first: Buffer, second: Buffer): Buffer {
  const both = allocate(first.length + second.length);
  copyBytes(first, both, 0);
  copyBytes(second, both, first.length);
  return both;
}
