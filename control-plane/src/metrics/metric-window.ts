/** A stretch of time up to now, as points: each is one step long, and the last one is still going on. */
export interface MetricWindow {
  readonly stepSeconds: number;
  readonly points: number;
  /** Which table's rows its points are made of. Minutes are kept for a week. */
  readonly per: 'minute' | 'hour';
}

const MINUTE = 60;
const HOUR = 3_600;

/** Steps divide a day, so that points stand at round times in UTC. */
export const WINDOWS = {
  '15m': { stepSeconds: MINUTE, points: 15, per: 'minute' },
  '1h': { stepSeconds: MINUTE, points: 60, per: 'minute' },
  '6h': { stepSeconds: 5 * MINUTE, points: 72, per: 'minute' },
  '24h': { stepSeconds: 15 * MINUTE, points: 96, per: 'minute' },
  '7d': { stepSeconds: HOUR, points: 168, per: 'hour' },
  '30d': { stepSeconds: 6 * HOUR, points: 120, per: 'hour' },
} as const satisfies Record<string, MetricWindow>;

/** Of the dashboard, which is asked for again and again: 24 rows are read in a few milliseconds, a day's minutes in a hundred. */
export const LAST_DAY = { stepSeconds: HOUR, points: 24, per: 'hour' } as const satisfies MetricWindow;

export type WindowName = keyof typeof WINDOWS;

export const WINDOW_NAMES = Object.keys(WINDOWS) as [WindowName, ...WindowName[]];
