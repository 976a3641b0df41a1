/** How long an idle sandbox stays, milliseconds, for a function by its index. */
export interface KeepAlive {
  readonly name: string;
  keepAliveMs(functionIndex: number): number;
  /** A call of the function began so long after its last one had ended. */
  observeGap(functionIndex: number, gapMs: number): void;
}

const MINUTE_MS = 60_000;

export function fixedKeepAlive(minutes: number): KeepAlive {
  return {
    name: `${minutes} min`,
    keepAliveMs: () => minutes * MINUTE_MS,
    observeGap: () => undefined,
  };
}

/** Gaps that are told apart, minutes; a longer one is not worth waiting for. */
const GAP_MINUTES_MAX = 60;
const GAPS_MIN = 5;

/**
 * Keeps a sandbox as long as 99 of 100 gaps of its function were, as "Serverless in the Wild" proposes, without its prewarming. Ten
 * minutes while little is known of the function, one when it is mostly called at longer intervals.
 */
export function histogramKeepAlive(functions: number): KeepAlive {
  const gaps = Array.from({ length: functions }, () => new Uint32Array(GAP_MINUTES_MAX + 1));
  return {
    name: 'histogram',
    observeGap: (index, gapMs) => {
      const minutes = gaps[index];
      const minute = Math.min(GAP_MINUTES_MAX, Math.floor(gapMs / MINUTE_MS));
      if (minutes !== undefined) minutes[minute] = (minutes[minute] ?? 0) + 1;
    },
    keepAliveMs: (index) => {
      const minutes = gaps[index] ?? [];
      let total = 0;
      for (const count of minutes) total += count;
      if (total < GAPS_MIN) return 10 * MINUTE_MS;
      const long = minutes[GAP_MINUTES_MAX] ?? 0;
      if (long * 2 > total) return MINUTE_MS;
      let [seen, minute] = [0, 0];
      while (minute < GAP_MINUTES_MAX && seen + (minutes[minute] ?? 0) < 0.99 * (total - long)) {
        seen += minutes[minute] ?? 0;
        minute += 1;
      }
      return (minute + 1) * MINUTE_MS;
    },
  };
}
