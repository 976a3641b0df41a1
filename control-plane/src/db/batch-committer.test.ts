import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import { BatchCommitter } from './batch-committer.js';

const log = pino({ level: 'silent' });

function committer(commit: (entries: readonly number[]) => void, batchMax = 100) {
  const committed: number[][] = [];
  const refused: number[] = [];
  const writer = new BatchCommitter<number>({
    what: 'numbers',
    commit: async (entries) => commit(entries),
    onCommitted: (entries) => committed.push([...entries]),
    onRefused: (entry) => refused.push(entry),
    lingerMs: 1,
    batchMax,
    log,
  });
  return { writer, committed, refused };
}

const sqlError = (code: string) => Object.assign(new Error(code), { code });

describe('BatchCommitter', () => {
  it('writes what came together in one commit, in order', async () => {
    const { writer, committed } = committer(() => {});
    for (const n of [1, 2, 3]) writer.push(n);
    await writer.close();
    expect(committed).toEqual([[1, 2, 3]]);
  });

  it('tries again while the database is away and loses nothing', async () => {
    let failures = 2;
    const { writer, committed, refused } = committer(() => {
      if (failures-- > 0) throw sqlError('57P01');
    });
    writer.push(1);
    writer.push(2);
    await expect.poll(() => committed).toEqual([[1, 2]]);
    expect(refused).toEqual([]);
  });

  it('drops only the entry that the database refuses', async () => {
    const { writer, committed, refused } = committer((entries) => {
      if (entries.includes(3)) throw new Error('wrapped', { cause: sqlError('22P05') });
    });
    for (const n of [1, 2, 3, 4, 5]) writer.push(n);
    await writer.close();
    expect(committed.flat()).toEqual([1, 2, 4, 5]);
    expect(refused).toEqual([3]);
  });

  it('does not hold up a stop when the database is away', async () => {
    const { writer, committed } = committer(() => {
      throw sqlError('08006');
    });
    writer.push(1);
    await writer.close();
    expect(committed).toEqual([]);
  });

  it('bounds a batch by size too, and takes an entry that is larger than any batch alone', async () => {
    const committed: number[][] = [];
    const writer = new BatchCommitter<number>({
      what: 'numbers',
      commit: async () => {},
      onCommitted: (entries) => committed.push([...entries]),
      onRefused: () => {},
      lingerMs: 1,
      batchMax: 100,
      sizeOf: (entry) => entry,
      batchSizeMax: 10,
      log,
    });
    for (const n of [4, 5, 3, 50, 1]) writer.push(n);
    await writer.close();
    expect(committed).toEqual([[4, 5], [3], [50], [1]]);
  });

  it('says when what was pushed before is written or refused, whatever comes after', async () => {
    const { writer, committed, refused } = committer((entries) => {
      if (entries.includes(2)) throw sqlError('22P05');
    }, 2);
    await writer.caughtUp();
    for (const n of [1, 2, 3]) writer.push(n);
    const caughtUp = writer.caughtUp().then(() => ({ committed: committed.flat(), refused: [...refused] }));
    for (let n = 4; n < 50; n += 1) writer.push(n);
    const then = await caughtUp;
    expect(then.committed.slice(0, 2)).toEqual([1, 3]);
    expect(then.committed.length).toBeLessThan(10);
    expect(then.refused).toEqual([2]);
    await writer.close();
    await writer.caughtUp();
  });

  it('bounds a batch', async () => {
    const { writer, committed } = committer(() => {}, 2);
    for (const n of [1, 2, 3, 4, 5]) writer.push(n);
    await writer.close();
    expect(committed).toEqual([[1, 2], [3, 4], [5]]);
  });
});
