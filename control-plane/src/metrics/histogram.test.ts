import { describe, expect, it } from 'vitest';
import { BUCKET_GROWTH, countOf, mergeHistograms, percentiles, SHORTEST_MS } from './histogram.js';

/** As the database makes it. */
function histogramOf(values: readonly number[]): Record<string, number> {
  const histogram: Record<string, number> = {};
  for (const value of values) {
    const bucket = Math.ceil(Math.log(Math.max(value, SHORTEST_MS)) / Math.log(BUCKET_GROWTH));
    histogram[bucket] = (histogram[bucket] ?? 0) + 1;
  }
  return histogram;
}

/** The same numbers in every run (mulberry32). */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

const next = random(7);
const normal = (): number => Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next());
const many = (value: () => number): number[] => Array.from({ length: 20_000 }, value);
const DISTRIBUTIONS = {
  'all the same': many(() => 12.345),
  uniform: many(() => next() * 900_000),
  exponential: many(() => -Math.log(1 - next()) * 40),
  'log-normal': many(() => Math.exp(1 + 1.5 * normal())),
  'fast with some cold starts': many(() => (next() < 0.04 ? 800 + 300 * next() : 1.5 + next())),
  'below a millisecond': many(() => 0.002 + next() / 50),
};
const RANKS = [0.5, 0.95, 0.99];

describe('percentiles of merged histograms', () => {
  it.each(Object.entries(DISTRIBUTIONS))('are within 3 %% of the exact ones: %s', (_, values) => {
    const parts = Array.from({ length: 60 }, (_, part) => histogramOf(values.filter((_, at) => at % 60 === part)));
    const found = percentiles(mergeHistograms(parts), RANKS);
    const sorted = [...values].sort((a, b) => a - b);
    for (const [at, rank] of RANKS.entries()) {
      const exact = sorted[Math.ceil(rank * sorted.length) - 1] ?? 0;
      expect(Math.abs((found?.[at] ?? 0) / exact - 1)).toBeLessThan(0.03);
    }
  });

  it('are those of few values too, and of none there are none', () => {
    const found = percentiles(histogramOf([10, 1_000]), [0, 0.5, 0.51, 1]);
    expect(found?.map((value) => Math.round(value / 10))).toEqual([1, 1, expect.any(Number), expect.any(Number)]);
    expect(found?.[2]).toBe(found?.[3]);
    expect(percentiles({}, RANKS)).toBeUndefined();
  });
});

describe('mergeHistograms', () => {
  it('gives the histogram of all values, in any order', () => {
    const [a, b, c] = [histogramOf([1, 2, 3]), histogramOf([2, 0, 1e6]), {}];
    const whole = histogramOf([1, 2, 3, 2, 0, 1e6]);
    expect(mergeHistograms([a, b, c])).toEqual(whole);
    expect(mergeHistograms([c, mergeHistograms([b, a])])).toEqual(whole);
    expect(countOf(whole)).toBe(6);
  });
});
