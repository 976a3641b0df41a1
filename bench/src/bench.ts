import type { Driver } from './system-under-test.js';

/** What every benchmark is told. */
export interface BenchOptions {
  /** Ends the benchmark early; everything is stopped all the same. */
  readonly signal: AbortSignal;
  readonly driver: Driver;
  readonly onProgress: (line: string) => void;
}

/** A benchmark as the command line knows it. */
export interface Bench {
  /** Completes the line that begins with its name. */
  readonly about: string;
  /** Flags of its own that take a whole number, with their defaults and what they mean. */
  readonly counts: Readonly<Record<string, { readonly initial: number; readonly about: string }>>;
  /** Measures, and says it for people. `figures` is one JSON object; `failure` what a bound was missed by. */
  run(
    options: BenchOptions,
    counts: Readonly<Record<string, number>>,
  ): Promise<{ readonly figures: object; readonly text: string; readonly failure?: string }>;
}
