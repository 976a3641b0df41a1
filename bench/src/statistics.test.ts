import { expect, it } from 'vitest';
import { median, percentile, rounded } from './statistics.js';

it('a percentile is the smallest sample that so many samples do not exceed', () => {
  const samples = [5, 1, 4, 2, 3];
  expect([1, 20, 21, 50, 99, 100].map((percent) => percentile(samples, percent))).toEqual([1, 1, 2, 3, 5, 5]);
  expect(median([7])).toBe(7);
  expect(samples).toEqual([5, 1, 4, 2, 3]);
});

it('no samples have no percentile', () => {
  expect(() => median([])).toThrow(/no samples/);
});

it('figures are shown in microseconds', () => {
  expect(rounded(1.23456)).toBe(1.235);
});
