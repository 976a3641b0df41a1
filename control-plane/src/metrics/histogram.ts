import type { SparseHistogram } from '../db/metric-tables.js';

/**
 * Buckets grow by this factor, so that what stands for a bucket is at most 2 % from anything in it: bucket `b` holds the
 * values above `1.04^(b-1)` up to `1.04^b`. A minute of one function fills 20 to 60 of them; 1 µs to 15 min are 525.
 * Stored histograms are made with it: it cannot change.
 */
export const BUCKET_GROWTH = 1.04;

/** Shorter times than a microsecond count as one. Milliseconds. */
export const SHORTEST_MS = 0.001;

/** What stands for a bucket, milliseconds: as far from its upper end as from its lower one, in proportion. */
const middleOf = (bucket: number): number => (2 * BUCKET_GROWTH ** bucket) / (BUCKET_GROWTH + 1);

/** Histograms of parts give the histogram of the whole, in any order. */
export function mergeHistograms(histograms: readonly SparseHistogram[]): SparseHistogram {
  const merged: Record<string, number> = {};
  for (const histogram of histograms) {
    for (const [bucket, count] of Object.entries(histogram)) merged[bucket] = (merged[bucket] ?? 0) + count;
  }
  return merged;
}

export const countOf = (histogram: SparseHistogram): number =>
  Object.values(histogram).reduce((sum, count) => sum + count, 0);

/**
 * For each rank between 0 and 1 the smallest value that so large a part of all values does not exceed, in milliseconds
 * within 2 %; undefined when there is none.
 */
export function percentiles(histogram: SparseHistogram, ranks: readonly number[]): readonly number[] | undefined {
  const buckets = Object.entries(histogram)
    .map(([bucket, count]) => ({ bucket: Number(bucket), count }))
    .sort((a, b) => a.bucket - b.bucket);
  const total = countOf(histogram);
  if (total === 0) return undefined;
  return ranks.map((rank) => {
    const wanted = Math.max(1, Math.ceil(rank * total));
    let seen = 0;
    const found = buckets.find(({ count }) => {
      seen += count;
      return seen >= wanted;
    });
    return middleOf(found?.bucket ?? 0);
  });
}
