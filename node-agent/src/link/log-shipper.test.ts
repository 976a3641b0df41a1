import { type LogBatch, type LogLine, LogStream } from '@lambda-fleet/proto';
import { describe, expect, it } from 'vitest';
import { LogShipper } from './log-shipper.js';

function line(text: string, sequence = 1): LogLine {
  return {
    invocationId: 'i',
    functionId: 'f',
    projectId: 'default',
    versionId: 'v',
    epoch: 1,
    sequence,
    unixMs: 0,
    stream: LogStream.STDOUT,
    level: 'INFO',
    text,
  };
}

function shipper(max = 1e6, budget = { used: 0, max }) {
  const sent: LogBatch[] = [];
  const logs = new LogShipper({
    send: (batch) => sent.push(batch),
    lingerMs: 5,
    batchLinesMax: 3,
    batchBytesMax: 1e4,
    budget,
  });
  const texts = () => sent.map((batch) => batch.lines.map(({ text }) => text));
  return { logs, sent, texts, budget };
}

describe('LogShipper', () => {
  it('sends lines in batches, in order, also when nobody flushes', async () => {
    const { logs, texts } = shipper();
    for (const text of ['a', 'b', 'c', 'd']) logs.add(line(text));
    expect(texts()).toEqual([['a', 'b', 'c']]);
    await expect.poll(texts).toEqual([['a', 'b', 'c'], ['d']]);
  });

  it('sends a batch that has grown large without waiting for more lines', () => {
    const { logs, sent } = shipper();
    logs.add(line('x'.repeat(20_000)));
    expect(sent).toHaveLength(1);
  });

  it('sends again what is not acknowledged, under the same sequence', () => {
    const { logs, sent } = shipper();
    for (const text of ['a', 'b', 'c']) {
      logs.add(line(text));
      logs.flush();
    }
    logs.acknowledge(2);
    sent.length = 0;
    logs.replay();
    expect(sent.map((batch) => batch.sequence)).toEqual([3]);
  });

  it('drops lines past its limit and says how many, once there is room', () => {
    const { logs, sent, texts } = shipper(500);
    for (let i = 1; i <= 5; i += 1) logs.add(line(`line ${i}`, i));
    logs.flush();
    expect(texts().flat()).toEqual(['line 1', 'line 2', 'line 3']);
    logs.acknowledge(Number.MAX_SAFE_INTEGER);
    sent.length = 0;
    logs.add(line('line 6', 6));
    logs.flush();
    expect(texts().flat()).toEqual([expect.stringMatching(/^\[2 log lines were dropped/), 'line 6']);
    expect(sent[0]?.lines.map(({ sequence }) => sequence)).toEqual([5, 6]);
  });

  it('gives what is not acknowledged to the shipper of another link, within the limit that both share', () => {
    const one = shipper(500);
    const two = shipper(500, one.budget);
    for (const text of ['a', 'b', 'c']) {
      one.logs.add(line(text));
      one.logs.flush();
    }
    one.logs.acknowledge(1);
    two.logs.adopt(one.logs.release());
    expect(two.texts()).toEqual([['b'], ['c']]);
    two.logs.add(line('d'));
    two.logs.add(line('does not fit'));
    two.logs.flush();
    expect(two.texts().at(-1)).toEqual(['d']);
    two.logs.acknowledge(3);
    expect(one.budget.used).toBe(0);
    one.sent.length = 0;
    one.logs.replay();
    expect(one.sent).toEqual([]);
  });
});
