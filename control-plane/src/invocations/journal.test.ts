import { pino } from 'pino';
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { ExecutionRecord } from '../executions/execution-rows.js';
import { Journal } from './journal.js';

const MB = 1024 * 1024;

const record = (changes: Partial<ExecutionRecord>): ExecutionRecord => ({
  ...{ id: 'i', projectId: 'p', functionId: 'f', functionName: 'f', versionId: 'v', versionNumber: 1, trigger: 'api' },
  ...{ epoch: 1, outcome: 'success', statusCode: undefined, error: undefined, receipt: {}, nodeId: undefined },
  ...{ input: undefined, output: undefined, keepPayloads: true, startedAtMs: 0, finishedAtMs: 0 },
  ...changes,
});

function journal() {
  const batches: (readonly ExecutionRecord[])[] = [];
  let proceed = () => {};
  const away = new Promise<void>((resolve) => {
    proceed = resolve;
  });
  const writer = new Journal({
    insert: async (records) => {
      await away;
      batches.push(records);
    },
    log: pino({ level: 'silent' }),
  });
  return { writer, batches, proceed };
}

describe('Journal', () => {
  it('puts no more bytes into one statement than it may stop the process for', async () => {
    const { writer, batches, proceed } = journal();
    for (let at = 0; at < 5; at += 1) writer.append(record({ inputBytes: Buffer.alloc(1.5 * MB) }), undefined);
    writer.append(record({ inputBytes: Buffer.alloc(6 * MB) }), undefined);
    for (let at = 0; at < 3; at += 1) writer.append(record({ input: '1' }), undefined);
    proceed();
    await writer.close();
    expect(batches.map(({ length }) => length)).toEqual([2, 2, 1, 1, 3]);
    expect(batches.flat().every(({ input, inputBytes }) => input ?? inputBytes)).toBe(true);
  });

  it('gives up bodies before texts, and texts before executions, when the database takes none', async () => {
    const { writer, batches, proceed } = journal();
    const text = 'x'.repeat(MB);
    for (let at = 0; at < 10; at += 1) {
      writer.append(record({ input: 'short', inputBytes: Buffer.alloc(6 * MB) }), undefined);
    }
    for (let at = 0; at < 50; at += 1) writer.append(record({ input: text }), undefined);
    proceed();
    await writer.close();
    const written = batches.flat();
    expect(written).toHaveLength(60);
    expect(written.filter(({ inputBytes }) => inputBytes !== undefined)).toHaveLength(5);
    expect(written.slice(0, 10).every(({ input }) => input === 'short')).toBe(true);
    expect(written.slice(10).filter(({ input }) => input !== undefined)).toHaveLength(33);
  });

  afterEach(() => vi.restoreAllMocks());

  it('writes an execution without its body when the database is too slow for it, and the next one with it', async () => {
    let now = 0;
    vi.spyOn(performance, 'now').mockImplementation(() => now);
    const written: (readonly ExecutionRecord[])[] = [];
    const writer = new Journal({
      insert: async (records) => {
        written.push(records);
        if (written.length > 2) return;
        now += 5_000;
        throw new Error('too slow');
      },
      log: pino({ level: 'silent' }),
    });
    const long = record({ input: 'text', inputBytes: Buffer.alloc(MB) });
    writer.append(long, undefined);
    await expect.poll(() => written.length).toBe(3);
    writer.append(long, undefined);
    await expect.poll(() => written.length).toBe(4);
    expect(written.map(([first]) => first?.inputBytes?.length)).toEqual([MB, MB, undefined, MB]);
    expect(written[2]?.[0]?.input).toBe('text');
    await writer.close();
  });
});
