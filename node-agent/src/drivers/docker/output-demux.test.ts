import { expect, test } from 'vitest';
import { OutputDemux } from './output-demux.js';

function piece(stream: number, text: string): Buffer {
  const header = Buffer.alloc(8);
  header[0] = stream;
  header.writeUInt32BE(Buffer.byteLength(text), 4);
  return Buffer.concat([header, Buffer.from(text)]);
}

const STREAM = Buffer.concat([piece(1, 'out'), piece(2, 'err'), piece(1, ''), piece(1, 'x'.repeat(100))]);

test.each([1, 3, 8, 11, 1000])('output is split the same in chunks of %i bytes', (size) => {
  const seen = { stdout: '', stderr: '' };
  const demux = new OutputDemux((stream, bytes) => {
    seen[stream] += bytes.toString();
  });
  for (let at = 0; at < STREAM.length; at += size) demux.push(STREAM.subarray(at, at + size));
  expect(seen).toEqual({ stdout: `out${'x'.repeat(100)}`, stderr: 'err' });
});

test('a hundred thousand one-byte pieces in one chunk do not overflow the stack', () => {
  let bytes = 0;
  const demux = new OutputDemux((_, part) => {
    bytes += part.length;
  });
  demux.push(Buffer.concat(Array.from({ length: 100_000 }, () => piece(1, 'x'))));
  expect(bytes).toBe(100_000);
});
