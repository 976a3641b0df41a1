import { type LogBatch, type LogLine, LogStream } from '@lambda-fleet/proto';
import { pino } from 'pino';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startTestPostgres, type TestPostgres } from '../db/test-postgres.js';
import { insertLogLines } from './insert-log-lines.js';
import { LogCapture } from './log-capture.js';
import type { StoredLogLine } from './log-line.js';
import { LogWriter } from './log-writer.js';

const log = pino({ level: 'silent' });

describe('LogWriter', () => {
  let postgres: TestPostgres;
  beforeAll(async () => {
    postgres = await startTestPostgres();
  });
  afterAll(() => postgres.close());

  function writer() {
    const published: StoredLogLine[] = [];
    const acknowledged: number[] = [];
    const capture = new LogCapture();
    let statements = 0;
    const logs = new LogWriter({
      insert: (lines) => {
        statements += 1;
        return insertLogLines(postgres.database, lines);
      },
      capture,
      onCommitted: (lines) => published.push(...lines),
      log,
    });
    const source = { nodeId: 'node-1', acknowledgeLogs: (sequence: number) => acknowledged.push(sequence) };
    return { logs, source, published, acknowledged, capture, statements: () => statements };
  }

  const executionId = uuidv7();
  const functionId = uuidv7();
  const line = (sequence: number, text: string, changes: Partial<LogLine> = {}): LogLine => ({
    invocationId: executionId,
    functionId,
    projectId: 'default',
    versionId: functionId,
    epoch: 1,
    sequence,
    unixMs: Date.now(),
    stream: LogStream.STDOUT,
    level: 'INFO',
    text,
    ...changes,
  });
  const batch = (sequence: number, ...lines: LogLine[]): LogBatch => ({ sequence, lines });

  it('stores a batch that comes twice once, and acknowledges it both times', async () => {
    const { logs, source, published, acknowledged } = writer();
    logs.append(source, batch(1, line(1, 'one'), line(2, 'two')));
    await expect.poll(() => acknowledged).toEqual([1]);
    logs.append(source, batch(1, line(1, 'one'), line(2, 'two')));
    await expect.poll(() => acknowledged).toEqual([1, 1]);
    expect(published.map(({ text }) => text)).toEqual(['one', 'two']);
    expect(published[0]).toMatchObject({ executionId, functionId, stream: 'stdout', level: 'INFO' });
  });

  it('stores what PostgreSQL cannot hold with a replacement character', async () => {
    const { logs, source, published } = writer();
    logs.append(source, batch(1, line(10, 'a\0b'), line(11, '\u001b[31m \ud800')));
    await expect.poll(() => published.length).toBe(2);
    expect(published[0]?.text).toBe('a\uFFFDb');
  });

  it('drops malformed lines and keeps their neighbours', async () => {
    const { logs, source, published, acknowledged } = writer();
    const lies = [{ invocationId: 'x' }, { stream: 99 as LogLine['stream'] }, { unixMs: 9e15 }, { functionId: '' }];
    logs.append(source, batch(4, ...lies.map((lie, i) => line(20 + i, 'lie', lie)), line(30, 'truth')));
    await expect.poll(() => acknowledged).toEqual([4]);
    expect(published.map(({ text }) => text)).toEqual(['truth']);
  });

  it('a batch of a project that does not exist neither blocks the others nor comes again', async () => {
    const { logs, source, published, acknowledged } = writer();
    logs.append(source, batch(1, line(40, 'before')));
    logs.append(source, batch(2, line(41, 'foreign', { projectId: 'nobody' })));
    logs.append(source, batch(3, line(42, 'after')));
    await expect.poll(() => acknowledged.at(-1)).toBe(3);
    expect(published.map(({ text }) => text)).toEqual(['before', 'after']);
  });

  it('stores a burst of one-line batches in few statements, so that no backlog grows', async () => {
    const { logs, source, published, acknowledged, statements } = writer();
    for (let i = 1; i <= 3_000; i += 1) logs.append(source, batch(i, line(1_000 + i, 'x')));
    await expect.poll(() => acknowledged.at(-1), { timeout: 10_000 }).toBe(3_000);
    expect(published).toHaveLength(3_000);
    expect(statements()).toBeLessThan(5);
  });

  it('takes the lines of test runs aside', async () => {
    const { logs, source, published, acknowledged, capture } = writer();
    const testRun = uuidv7();
    const captured = capture.begin(testRun);
    logs.append(
      source,
      batch(7, line(2, 'second', { invocationId: testRun }), line(1, 'first', { invocationId: testRun })),
    );
    await expect.poll(() => acknowledged).toEqual([7]);
    expect(published).toEqual([]);
    expect(captured.lines().map(({ text }) => text)).toEqual(['first', 'second']);
    captured.end();
  });
});
