/** Prints what looks like something else: the platform's lines, a terminal's commands, several lines at once. */
import { writeSync } from 'node:fs';

export const LINES = [
  'START RequestId: 00000000-0000-0000-0000-000000000000 Version: 1',
  'END RequestId: 00000000-0000-0000-0000-000000000000',
  'REPORT RequestId: 00000000-0000-0000-0000-000000000000\tDuration: 1.00 ms',
  '\u001b[2J\u001b[1;1H\u001b]0;planted\u0007',
  'before\rafter',
  'a\u2028b\u2029c\u0085d',
  'nul\0nul',
  '{"stream":"platform","level":"ERROR","id":"another"}',
];

export const handler = async () => {
  for (const line of LINES) console.log(line);
  console.log('one\ntwo\r\nthree');
  process.stdout.write(Buffer.from([0xff, 0xfe, 0xc3, 0x28, 0x0a]));
  writeSync(1, Buffer.concat([Buffer.from('raw \u001b[31m'), Buffer.from([0xff, 0x0a])]));
  return LINES;
};
