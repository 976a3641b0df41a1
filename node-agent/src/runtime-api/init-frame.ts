/** Frames of the static init, as `runtimes/PROTOCOL.md` lays them out under "The static init". */

import { HEAD_BYTES, LENGTH_MIN } from '../channel/frame.js';

export const InitFrame = {
  HELLO: 0x01,
  PONG: 0x07,
  OPEN: 0x10,
  DATA: 0x11,
  END: 0x12,
  RESET: 0x13,
  WINDOW: 0x14,
  OPENED: 0x15,
  STARTED: 0x16,
  NOT_STARTED: 0x17,
  AGENT_INIT: 0x81,
  AGENT_PING: 0x83,
  AGENT_OPEN: 0x90,
  AGENT_DATA: 0x91,
  AGENT_END: 0x92,
  AGENT_RESET: 0x93,
  AGENT_WINDOW: 0x94,
} as const;

export const ID_BYTES = 4;
export const DATA_BYTES_MAX = 16 * 1024;
/** How much may be under way in each direction of a stream. */
export const WINDOW_BYTES = 64 * 1024;
/** Open at a time, of those that the program opened and of those that the agent opened. */
export const STREAMS_PER_SIDE = 64;
/** What the length of a frame from the init may say. */
export const INIT_FRAME_LENGTH_MAX = LENGTH_MIN + ID_BYTES + DATA_BYTES_MAX;

/** A whole frame without meta whose body is a stream's id and what `rest` writes behind it. */
export function streamFrame(
  type: number,
  id: number,
  restBytes = 0,
  rest?: (frame: Buffer, at: number) => void,
): Buffer {
  const frame = streamHead(type, id, restBytes, restBytes);
  rest?.(frame, HEAD_BYTES + ID_BYTES);
  return frame;
}

/** What comes before the bytes of a DATA frame, which are written from where they stand. */
export function dataHead(id: number, dataBytes: number): Buffer {
  return streamHead(InitFrame.AGENT_DATA, id, dataBytes, 0);
}

function streamHead(type: number, id: number, restBytes: number, roomBytes: number): Buffer {
  const frame = Buffer.allocUnsafe(HEAD_BYTES + ID_BYTES + roomBytes);
  frame.writeUInt32BE(LENGTH_MIN + ID_BYTES + restBytes, 0);
  frame.writeUInt8(type, 4);
  frame.writeUInt32BE(0, 5);
  frame.writeUInt32BE(id, HEAD_BYTES);
  return frame;
}
