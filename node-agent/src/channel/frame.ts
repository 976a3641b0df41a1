/** Frames of the channel, as `runtimes/PROTOCOL.md` lays them out. */

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

/** Bytes before `meta`: length, type and meta length. */
export const HEAD_BYTES = 9;
/** What `length` counts beside meta and body: type and meta length. */
export const LENGTH_MIN = 5;
export const LENGTH_MAX = 7 * 1024 * 1024;
export const META_BYTES_MAX = 256 * 1024;

export interface Frame {
  readonly type: number;
  /** Not parsed yet: most log frames of a flood are dropped unread. */
  readonly meta: Buffer;
  readonly body: Buffer;
}

/** Everything of a frame before its body, so that the body is written from where it stands. */
export function encodeHead(type: number, meta: object, bodyBytes: number): Buffer {
  const json = JSON.stringify(meta);
  const metaBytes = Buffer.byteLength(json);
  const length = LENGTH_MIN + metaBytes + bodyBytes;
  if (metaBytes > META_BYTES_MAX || length > LENGTH_MAX) throw new RangeError('the frame is too long for the channel');
  const head = Buffer.allocUnsafe(HEAD_BYTES + metaBytes);
  head.writeUInt32BE(length, 0);
  head.writeUInt8(type, 4);
  head.writeUInt32BE(metaBytes, 5);
  head.write(json, HEAD_BYTES);
  return head;
}
