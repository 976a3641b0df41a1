import type { SparseHistogram } from '../db/metric-tables.js';
import { countOf, mergeHistograms, percentiles } from './histogram.js';
import type { Figures, MetricSeries } from './metric-table.js';

/** How the API shows a time that executions took. Milliseconds. */
interface ShownTimes {
  readonly averageMs: number;
  readonly p50Ms: number;
  readonly p95Ms: number;
  readonly p99Ms: number;
}

/** How the API shows figures. */
export interface ShownFigures {
  readonly invocations: number;
  readonly errors: number;
  /** Of the invocations, 0 to 1; null without any. */
  readonly errorShare: number | null;
  readonly functionErrors: number;
  readonly timeouts: number;
  readonly outcomeUnknown: number;
  readonly notStarted: number;
  readonly throttles: number;
  readonly starts: { readonly cold: number; readonly blank: number; readonly warm: number };
  /** Of the starts, 0 to 1; null without any. */
  readonly coldShare: number | null;
  /** Null when none was measured. */
  readonly duration: ShownTimes | null;
  readonly cpu: ShownTimes | null;
  readonly memoryPeakBytes: number | null;
}

function showFigures(figures: Figures): ShownFigures {
  const { invocations, functionErrors, timeouts, outcomeUnknown, notStarted, throttles } = figures;
  const { cold, blank, warm, memoryPeakBytes } = figures;
  const errors = functionErrors + timeouts + outcomeUnknown + notStarted;
  const starts = cold + blank + warm;
  return {
    ...{ invocations, errors, errorShare: invocations === 0 ? null : errors / invocations },
    ...{ functionErrors, timeouts, outcomeUnknown, notStarted, throttles },
    starts: { cold, blank, warm },
    coldShare: starts === 0 ? null : cold / starts,
    duration: shownTimes(figures.durations, figures.durationMs),
    cpu: shownTimes(figures.cpus, figures.cpuMs),
    memoryPeakBytes: memoryPeakBytes === 0 ? null : memoryPeakBytes,
  };
}

/** A series as the API shows it, with the totals of its points. */
export function showSeries({ from, to, completeUntil, points }: MetricSeries, stepSeconds: number) {
  const series = points.map((point) => ({ at: point.at, ...showFigures(point) }));
  return { from, to, stepSeconds, completeUntil, totals: showFigures(totalOf(points)), series };
}

export function totalOf(parts: readonly Figures[]): Figures {
  const sum = (of: (figures: Figures) => number): number => parts.reduce((total, part) => total + of(part), 0);
  return {
    invocations: sum((part) => part.invocations),
    functionErrors: sum((part) => part.functionErrors),
    timeouts: sum((part) => part.timeouts),
    outcomeUnknown: sum((part) => part.outcomeUnknown),
    notStarted: sum((part) => part.notStarted),
    throttles: sum((part) => part.throttles),
    cold: sum((part) => part.cold),
    blank: sum((part) => part.blank),
    warm: sum((part) => part.warm),
    durationMs: sum((part) => part.durationMs),
    cpuMs: sum((part) => part.cpuMs),
    memoryPeakBytes: parts.reduce((peak, part) => Math.max(peak, part.memoryPeakBytes), 0),
    durations: mergeHistograms(parts.map((part) => part.durations)),
    cpus: mergeHistograms(parts.map((part) => part.cpus)),
  };
}

const RANKS = [0.5, 0.95, 0.99];

function shownTimes(histogram: SparseHistogram, sumMs: number): ShownTimes | null {
  const found = percentiles(histogram, RANKS)?.map(rounded);
  if (found === undefined) return null;
  const [p50Ms = 0, p95Ms = 0, p99Ms = 0] = found;
  return { averageMs: rounded(sumMs / countOf(histogram)), p50Ms, p95Ms, p99Ms };
}

/** To the microsecond that times are measured in. */
const rounded = (ms: number): number => Math.round(ms * 1_000) / 1_000;
