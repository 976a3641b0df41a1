import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { RunAbandoned, RunDeadlines } from './run-deadlines.js';

let over: string[];
beforeEach(() => {
  over = [];
  vi.useFakeTimers();
});
afterEach(() => vi.useRealTimers());

const deadlines = (concurrency: number) => new RunDeadlines(100, concurrency, (id) => over.push(id));

test('with one at a time, each run moves the one timer forward', () => {
  const one = deadlines(1);
  one.arm('a');
  vi.advanceTimersByTime(90);
  one.arm('b');
  vi.advanceTimersByTime(90);
  expect(over).toEqual([]);
  vi.advanceTimersByTime(20);
  expect(over).toEqual(['b']);
});

test('with several, each has its own time', async () => {
  const several = deadlines(2);
  const never = new Promise<never>(() => {});
  void several.race('a', never).catch(() => {});
  vi.advanceTimersByTime(60);
  void several.race('b', never).catch(() => {});
  vi.advanceTimersByTime(50);
  expect(over).toEqual(['a']);
  several.arm('b');
  vi.advanceTimersByTime(90);
  expect(over).toEqual(['a']);
  vi.advanceTimersByTime(20);
  expect(over).toEqual(['a', 'b']);
});

test('one that is given up rejects alone, and one that has its result has no deadline any more', async () => {
  const several = deadlines(2);
  const given = several.race('a', new Promise<never>(() => {}));
  const fine = several.race('b', Promise.resolve('result'));
  several.abandon('a', 'cancelled');
  await expect(given).rejects.toEqual(new RunAbandoned('cancelled'));
  expect(await fine).toBe('result');
  vi.advanceTimersByTime(1_000);
  expect(over).toEqual([]);
});
