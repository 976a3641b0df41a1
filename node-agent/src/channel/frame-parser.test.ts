import { describe, expect, test } from 'vitest';
import { encodeHead, type Frame, FrameType, LENGTH_MAX } from './frame.js';
import { FrameParser } from './frame-parser.js';
import { ProtocolViolation } from './protocol-violation.js';

function encode(type: number, meta: object, body = ''): Buffer {
  return Buffer.concat([encodeHead(type, meta, Buffer.byteLength(body)), Buffer.from(body)]);
}

function collect(): { readonly parser: FrameParser; readonly seen: string[] } {
  const seen: string[] = [];
  const parser = new FrameParser((frame: Frame) => {
    seen.push(`${frame.type} ${frame.meta} ${frame.body}`);
    return true;
  });
  return { parser, seen };
}

function head(length: number, metaBytes: number): Buffer {
  const bytes = Buffer.alloc(9);
  bytes.writeUInt32BE(length, 0);
  bytes[4] = FrameType.LOG;
  bytes.writeUInt32BE(metaBytes, 5);
  return bytes;
}

const STREAM = Buffer.concat([
  encode(FrameType.READY, {}),
  encode(FrameType.LOG, { id: null }, 'hello'),
  encode(FrameType.RESPONSE, { id: 'a' }, 'x'.repeat(300)),
  head(5, 0),
  encode(FrameType.PONG, {}),
]);
const FRAMES = ['2 {} ', '6 {"id":null} hello', `4 {"id":"a"} ${'x'.repeat(300)}`, '6  ', '7 {} '];

test.each([1, 2, 3, 7, 8, 9, 10, 64, 1000])('frames are the same in pieces of %i bytes', (size) => {
  const { parser, seen } = collect();
  for (let at = 0; at < STREAM.length; at += size) parser.push(STREAM.subarray(at, at + size));
  expect(seen).toEqual(FRAMES);
});

describe('a frame is refused as soon as its head is known', () => {
  test.each([
    ['length 0', head(0, 0)],
    ['length 4', head(4, 0)],
    ['one byte over the longest', head(LENGTH_MAX + 1, 0)],
    ['length 2^32-1', head(0xffff_ffff, 0)],
    ['meta longer than the frame', head(10, 6)],
    ['meta over 256 KiB', head(1024 * 1024, 256 * 1024 + 1)],
    ['meta length 2^32-1', head(100, 0xffff_ffff)],
  ])('%s', (_, bytes) => {
    expect(() => collect().parser.push(bytes)).toThrow(ProtocolViolation);
    const byBytes = collect().parser;
    expect(() => {
      for (const byte of bytes) byBytes.push(Buffer.from([byte]));
    }).toThrow(ProtocolViolation);
  });

  test('a bad length even before the type', () => {
    expect(() => collect().parser.push(Buffer.from([0xff, 0xff, 0xff, 0xff]))).toThrow(ProtocolViolation);
  });
});

test('the longest frame passes, and nothing of it is copied twice', () => {
  let body: Buffer | undefined;
  const parser = new FrameParser((frame) => {
    body = frame.body;
    return true;
  });
  const bytes = LENGTH_MAX - 5;
  parser.push(head(LENGTH_MAX, 0));
  for (let left = bytes; left > 0; left -= 65_536) parser.push(Buffer.alloc(Math.min(left, 65_536), 1));
  expect(body?.length).toBe(bytes);
  expect(body?.buffer.byteLength).toBe(bytes);
});

test('nothing is parsed after the receiver has enough', () => {
  let frames = 0;
  const parser = new FrameParser(() => {
    frames += 1;
    return false;
  });
  parser.push(Buffer.concat([encode(FrameType.READY, {}), encode(FrameType.READY, {})]));
  expect(frames).toBe(1);
});
