/**
 * Nearest-rank percentile: the smallest sample that at least `percent` of the samples do not exceed.
 * Throws without samples.
 */
export function percentile(samples: readonly number[], percent: number): number {
  const sorted = [...samples].sort((a, b) => a - b);
  const value = sorted[Math.max(0, Math.ceil((percent / 100) * sorted.length) - 1)];
  if (value === undefined) throw new Error('there are no samples');
  return value;
}

export function median(samples: readonly number[]): number {
  return percentile(samples, 50);
}

/** For people and for JSON: three digits behind the point, that is microseconds. */
export function rounded(milliseconds: number): number {
  return Math.round(milliseconds * 1_000) / 1_000;
}
