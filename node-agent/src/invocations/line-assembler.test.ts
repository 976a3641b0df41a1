import { expect, test } from 'vitest';
import { LineAssembler } from './line-assembler.js';

function assemble(chunks: readonly string[], lineBytesMax = 10): string[] {
  const lines: string[] = [];
  const assembler = new LineAssembler(lineBytesMax, (line) => lines.push(line.toString()));
  for (const chunk of chunks) assembler.push(Buffer.from(chunk));
  assembler.flush();
  return lines;
}

test.each([
  ['lines in one chunk', ['a\nb\n'], ['a', 'b']],
  ['a line over several chunks', ['a', 'b', 'c\nd'], ['abc', 'd']],
  ['Windows line ends', ['a\r\nb\r\n'], ['a', 'b']],
  ['a line without an end, cut at the limit', ['x'.repeat(25)], ['x'.repeat(10), 'x'.repeat(10), 'xxxxx']],
  ['a long line from single bytes', Array.from({ length: 12 }, () => 'y'), ['y'.repeat(10), 'yy']],
])('%s', (_, chunks, lines) => {
  expect(assemble(chunks)).toEqual(lines);
});
