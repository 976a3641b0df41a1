import { describe, expect, it } from 'vitest';
import { type DueSchedule, planTicks } from './plan-ticks.js';
import { timetableOf } from './timetable.js';

const second = (at: number): Date => new Date(Date.UTC(2026, 0, 1) + at * 1_000);
const everySecond = timetableOf({ expression: '* * * * * *', timeZone: 'UTC', anchorAt: second(0) });
const everyMinute = timetableOf({ expression: '* * * * *', timeZone: 'UTC', anchorAt: second(0) });

/** A tick is due at second 0. */
const schedule = (more: Partial<DueSchedule>): DueSchedule => ({
  ...{ overlap: 'skip', catchUpMs: 60_000, payloadBytes: 0, nextTickAt: second(0), waitingTickAt: null, busy: false },
  now: second(0.2),
  ...more,
});
/** Outcomes with the seconds of their ticks, `×` how many. */
const planned = (due: DueSchedule, next = everySecond) => {
  const { ticks, nextTickAt, waitingTickAt } = planTicks(due, next);
  const at = (date: Date | null) => date && (date.getTime() - second(0).getTime()) / 1_000;
  return {
    ticks: ticks.map(({ outcome, tickAt, count }) => `${outcome} ${at(tickAt)}${count === 1 ? '' : ` ×${count}`}`),
    next: at(nextTickAt),
    waiting: at(waitingTickAt),
  };
};

describe('planTicks', () => {
  it.each([
    ['skip', false, ['ran 0'], null],
    ['skip', true, ['skipped 0'], null],
    ['queue', false, ['ran 0'], null],
    ['queue', true, ['waiting 0'], 0],
    ['allow', false, ['ran 0'], null],
    ['allow', true, ['ran 0'], null],
  ] as const)('overlap %s while busy is %s: %j', (overlap, busy, ticks, waiting) => {
    expect(planned(schedule({ overlap, busy }))).toEqual({ ticks, next: 1, waiting });
  });

  it('one tick waits at most, and is run before what comes then', () => {
    const queue = { overlap: 'queue', nextTickAt: second(5), now: second(5), waitingTickAt: second(2) } as const;
    expect(planned(schedule({ ...queue, busy: true }))).toEqual({ ticks: ['skipped 5'], next: 6, waiting: 2 });
    expect(planned(schedule({ ...queue, busy: false }))).toEqual({
      ticks: ['ran 2', 'waiting 5'],
      next: 6,
      waiting: 5,
    });
    const early = { ...queue, now: second(4.5) };
    expect(planned(schedule({ ...early, busy: true }))).toEqual({ ticks: [], next: 5, waiting: 2 });
    expect(planned(schedule({ ...early, busy: false }))).toEqual({ ticks: ['ran 2'], next: 5, waiting: null });
  });

  it('within the window the newest tick is run with skip, the newest two with queue, all with allow', () => {
    const late = { now: second(5.5) };
    expect(planned(schedule(late)).ticks).toEqual(['missed 0 ×5', 'ran 5']);
    expect(planned(schedule({ ...late, overlap: 'queue' }))).toEqual({
      ticks: ['missed 0 ×4', 'ran 4', 'waiting 5'],
      next: 6,
      waiting: 5,
    });
    expect(planned(schedule({ ...late, overlap: 'allow' })).ticks).toEqual([0, 1, 2, 3, 4, 5].map((at) => `ran ${at}`));
  });

  it('ticks before the window are missed, and counted in one entry', () => {
    const hour = schedule({ overlap: 'allow', catchUpMs: 150_000, now: second(3_600) });
    const { ticks, next } = planned(hour, everyMinute);
    // The window begins at 3450.
    expect(ticks).toEqual(['missed 0 ×58', 'ran 3480', 'ran 3540', 'ran 3600']);
    expect(next).toBe(3_660);
    const [first] = planTicks(hour, everyMinute).ticks;
    expect(first?.until).toEqual(second(3_480));
  });

  it('a tick that is a few seconds late is on time without any window', () => {
    expect(planned(schedule({ catchUpMs: 0, now: second(9) }), everyMinute).ticks).toEqual(['ran 0']);
    expect(planned(schedule({ catchUpMs: 0, now: second(11) }), everyMinute).ticks).toEqual(['missed 0']);
  });

  it('after a long outage neither the count nor what is run grows without bound', () => {
    const month = { catchUpMs: 7 * 86_400_000, now: second(30 * 86_400) };
    const { ticks, next } = planned(schedule({ ...month, overlap: 'allow' }));
    expect(ticks).toHaveLength(101);
    expect(ticks.slice(0, 2)).toEqual(['missed 0 ×500', `ran ${30 * 86_400 - 99}`]);
    expect(next).toBe(30 * 86_400 + 1);
    const large = planned(schedule({ ...month, overlap: 'allow', payloadBytes: 1024 * 1024 }));
    expect(large.ticks).toHaveLength(17);
  });

  it('finds the newest ticks of every rhythm, as going through all of them does', () => {
    const rhythms = [
      '*/47 * * * * *',
      '*/10 3 * * *',
      '0-59/13 0 5 * * 1',
      '0,1,2 0 0 * * *',
      '15 2 1 * *',
      'rate(17 minutes)',
    ];
    for (const expression of rhythms) {
      for (const timeZone of ['UTC', 'Europe/Berlin']) {
        const next = timetableOf({ expression, timeZone, anchorAt: second(0) });
        const first = next(second(0)) ?? expect.fail('no tick');
        for (const days of [0.01, 0.3, 1.3]) {
          const now = new Date(first.getTime() + days * 86_400_000);
          const all: Date[] = [];
          for (let tick: Date | undefined = first; tick !== undefined && tick <= now; tick = next(tick)) all.push(tick);
          const due = schedule({ overlap: 'allow', catchUpMs: 7 * 86_400_000, nextTickAt: first, now });
          const ran = planTicks(due, next).ticks.filter(({ outcome }) => outcome === 'ran');
          expect(ran.map(({ tickAt }) => tickAt.toISOString())).toEqual(
            all.slice(-100).map((tick) => tick.toISOString()),
          );
        }
      }
    }
  });

  it('the last tick of all has none behind it', () => {
    const once = timetableOf({ expression: 'cron(0 0 1 1 ? 2026)', timeZone: 'UTC', anchorAt: second(0) });
    expect(planned(schedule({}), once)).toEqual({ ticks: ['ran 0'], next: null, waiting: null });
  });
});
