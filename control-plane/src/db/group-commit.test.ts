import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { GroupCommit, type GroupCommitOptions } from './group-commit.js';

function group(options: Partial<GroupCommitOptions<number, number>> = {}) {
  const batches: number[][] = [];
  const releases: (() => void)[] = [];
  const committer = new GroupCommit<number, number>({
    what: 'numbers',
    commit: async (entries) => {
      batches.push([...entries]);
      await new Promise<void>((resolve) => releases.push(resolve));
      return entries.map((entry) => entry * 2);
    },
    ...{ batchMax: 4, inFlightMax: 1, pendingMax: 10 },
    ...options,
  });
  const release = async (): Promise<void> => {
    releases.shift()?.();
    await sleep(5);
  };
  return { committer, batches, release };
}

const refusal = Object.assign(new Error('bad data'), { code: '22P02' });

describe('GroupCommit', () => {
  it('writes what comes in one turn in one statement, and what comes meanwhile in the next', async () => {
    const { committer, batches, release } = group();
    const first = [1, 2].map((entry) => committer.submit(entry));
    await sleep(5);
    const second = [3, 4, 5, 6, 7].map((entry) => committer.submit(entry));
    await sleep(5);
    expect(batches).toEqual([[1, 2]]);
    await release();
    expect(await Promise.all(first)).toEqual([2, 4]);
    expect(batches).toEqual([
      [1, 2],
      [3, 4, 5, 6],
    ]);
    await release();
    await release();
    expect(await Promise.all(second)).toEqual([6, 8, 10, 12, 14]);
  });

  it('bounds a statement by the size of its entries, and takes one that is larger alone', async () => {
    const { committer, batches, release } = group({ sizeOf: (entry) => entry, batchSizeMax: 10 });
    const all = [6, 5, 50, 1].map((entry) => committer.submit(entry));
    for (let n = 0; n < 4; n += 1) {
      await sleep(5);
      await release();
    }
    await Promise.all(all);
    expect(batches).toEqual([[6], [5], [50], [1]]);
  });

  it('fails the one entry that the database will never take, and writes the others', async () => {
    const written: number[] = [];
    const { committer } = group({
      commit: async (entries) => {
        if (entries.includes(3)) throw refusal;
        written.push(...entries);
        return [...entries];
      },
    });
    const all = await Promise.allSettled([1, 2, 3, 4].map((entry) => committer.submit(entry)));
    expect(all.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'rejected', 'fulfilled']);
    expect(written).toEqual([1, 2, 4]);
  });

  it('fails all entries of a statement when the database is away, and goes on with the next', async () => {
    let away = true;
    const { committer } = group({
      commit: async (entries) => {
        if (away) throw new Error('away');
        return [...entries];
      },
    });
    const all = await Promise.allSettled([1, 2].map((entry) => committer.submit(entry)));
    expect(all.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    away = false;
    expect(await committer.submit(3)).toBe(3);
  });

  it('refuses more than may wait', async () => {
    const { committer, release } = group({ pendingMax: 2 });
    const taken = [committer.submit(1), committer.submit(2)];
    await expect(committer.submit(3)).rejects.toMatchObject({ code: 'unavailable' });
    await sleep(5);
    await release();
    await Promise.all(taken);
    const again = committer.submit(4);
    await sleep(5);
    await release();
    expect(await again).toBe(8);
  });
});
