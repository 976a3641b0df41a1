import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { BatchedWriter } from './batched-writer.js';

function collect(answers: boolean[] = []) {
  const batches: number[][] = [];
  let overflows = 0;
  const writer = new BatchedWriter<number>({
    write: (batch) => {
      batches.push(batch);
      return answers.shift() ?? true;
    },
    onOverflow: () => {
      overflows += 1;
    },
    queuedBytesMax: 100,
    batchBytesMax: 10,
  });
  return { writer, batches, overflows: () => overflows };
}

describe('BatchedWriter', () => {
  it('sends the messages of one turn together and in order', async () => {
    const { writer, batches } = collect();
    writer.push(1, 1);
    writer.push(2, 1);
    await turn();
    writer.push(3, 1);
    await turn();
    expect(batches).toEqual([[1, 2], [3]]);
  });

  it('closes a batch that is full', async () => {
    const { writer, batches } = collect();
    for (const n of [1, 2, 3]) writer.push(n, 6);
    await turn();
    expect(batches).toEqual([[1, 2], [3]]);
  });

  it('writes nothing between a refused write and the drain, and loses nothing', async () => {
    const { writer, batches } = collect([false]);
    for (const n of [1, 2, 3]) writer.push(n, 6);
    await turn();
    writer.push(4, 1);
    await turn();
    expect(batches).toEqual([[1, 2]]);
    writer.drained();
    await turn();
    expect(batches).toEqual([
      [1, 2],
      [3, 4],
    ]);
  });

  it('gives up once when the peer does not read', async () => {
    const { writer, batches, overflows } = collect([false]);
    writer.push(0, 6);
    await turn();
    for (let n = 1; n <= 40; n += 1) writer.push(n, 6);
    await turn();
    expect(overflows()).toBe(1);
    expect(batches).toEqual([[0]]);
  });
});
