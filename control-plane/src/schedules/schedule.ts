import type { schedules, scheduleTicks } from '../db/schema.js';

export type Overlap = (typeof schedules.$inferSelect)['overlap'];
export type TickOutcome = (typeof scheduleTicks.$inferSelect)['outcome'];

export const OVERLAPS = ['skip', 'queue', 'allow'] as const satisfies readonly Overlap[];

/** A schedule as lists show it. Bytes and milliseconds. */
export interface ScheduleSummary {
  readonly id: string;
  readonly name: string;
  readonly functionName: string;
  readonly expression: string;
  readonly timeZone: string;
  readonly enabled: boolean;
  readonly overlap: Overlap;
  readonly catchUpMs: number;
  readonly jitterMs: number;
  /** 0: it has none, and each event says which tick it is. */
  readonly payloadBytes: number;
  /** Null while paused, and when there is none any more. */
  readonly nextTickAt: Date | null;
  /** The tick that waits for an earlier one's invocation to end. */
  readonly waitingTickAt: Date | null;
  readonly createdAt: Date;
  readonly updatedAt: Date;
}

/** A row as decisions about it need it. */
export interface ScheduleRecord extends ScheduleSummary {
  readonly projectId: string;
  readonly anchorAt: Date;
  readonly payload: Buffer | null;
  readonly revision: number;
  /** The database's clock at the time of reading. */
  readonly now: Date;
}

/** What a schedule's owner sets. */
export interface ScheduleSettings {
  readonly expression: string;
  readonly timeZone: string;
  /** JSON text. */
  readonly payload: Buffer | null;
  readonly enabled: boolean;
  readonly overlap: Overlap;
  readonly catchUpMs: number;
  readonly jitterMs: number;
}

/** One line of a schedule's history. */
export interface TickRecord {
  readonly id: number;
  readonly trigger: 'schedule' | 'manual';
  /** When it was due; for one of several, the first. */
  readonly tickAt: Date;
  readonly outcome: TickOutcome;
  readonly invocationId: string | null;
  readonly count: number;
  readonly until: Date | null;
  readonly recordedAt: Date;
}
