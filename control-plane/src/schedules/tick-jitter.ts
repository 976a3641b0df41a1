import { createHash } from 'node:crypto';

/**
 * How much later than its tick an invocation begins, from 0 to `jitterMs`: spread evenly over schedules and ticks, and the
 * same whoever computes it.
 */
export function tickJitterMs(scheduleId: string, tickAt: Date, jitterMs: number): number {
  if (jitterMs === 0) return 0;
  const digest = createHash('sha256').update(`${scheduleId} ${tickAt.getTime()}`).digest();
  return Math.floor((digest.readUInt32BE(0) / 2 ** 32) * (jitterMs + 1));
}
