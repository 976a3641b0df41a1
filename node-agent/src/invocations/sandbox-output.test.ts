import type { LogLine, VersionSpec } from '@lambda-fleet/proto';
import { expect, test } from 'vitest';
import type { AgentInvocation } from './invocation.js';
import { InvocationLog } from './invocation-log.js';
import { SandboxOutput } from './sandbox-output.js';

const lines: string[] = [];
function logOf(id: string): InvocationLog {
  const invocation = { invoke: { invocationId: id }, spec: {} as VersionSpec } as AgentInvocation;
  const log = (line: LogLine) => lines.push(`${line.invocationId}: ${line.text}`);
  return new InvocationLog(invocation, { refused: () => {}, ended: () => {}, log });
}

function output(concurrency: number): SandboxOutput {
  lines.length = 0;
  return new SandboxOutput(concurrency);
}

function write(out: SandboxOutput, id: string | undefined, text: string): void {
  const bytes = Buffer.from(text);
  if (out.wantsLog(bytes.length)) out.log({ id, stream: 'stdout', level: '', unixMs: 0 }, bytes);
}

test('a line goes to the invocation that it names, while that runs or was the last to end', () => {
  const out = output(2);
  for (const id of ['a', 'b']) out.begin(id, logOf(id));
  write(out, 'a', 'one');
  write(out, 'b', 'two');
  out.end('a');
  write(out, 'a', 'late');
  expect(lines).toEqual(['a: one', 'b: two', 'a: late']);
});

test('a line that names nobody, or a stranger, goes to the one that began last', () => {
  const out = output(2);
  for (const id of ['a', 'b']) out.begin(id, logOf(id));
  write(out, undefined, 'one');
  write(out, 'stranger', 'two');
  out.raw('stderr', Buffer.from('raw\n'));
  expect(lines).toEqual(['b: one', 'b: two', 'b: raw']);
});

test('of those that ended only the last is kept', () => {
  const out = output(1);
  for (const id of ['a', 'b', 'c']) {
    out.begin(id, logOf(id));
    out.end(id);
  }
  out.begin('d', logOf('d'));
  write(out, 'a', 'too late');
  write(out, 'c', 'late');
  expect(lines).toEqual(['d: too late', 'c: late']);
});

test('an unfinished raw line is given to its invocation when the next begins', () => {
  const out = output(1);
  out.begin('a', logOf('a'));
  out.end('a');
  out.raw('stdout', Buffer.from('no line end'));
  out.begin('b', logOf('b'));
  expect(lines).toEqual(['a: no line end']);
});

test('each of several has its own limit', () => {
  const out = output(2);
  for (const id of ['a', 'b']) out.begin(id, logOf(id));
  for (let n = 0; n < 10_001; n += 1) write(out, 'a', 'x');
  write(out, 'b', 'still heard');
  expect(lines).toHaveLength(10_001);
  expect(lines.at(-1)).toBe('b: still heard');
});

test('before anything runs nothing is kept', () => {
  const out = output(2);
  write(out, undefined, 'x');
  out.raw('stdout', Buffer.from('x\n'));
  expect(lines).toEqual([]);
});
