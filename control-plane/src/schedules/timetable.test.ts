import { describe, expect, it } from 'vitest';
import { nextTick, nextTicks, timetableOf } from './timetable.js';

const BERLIN = 'Europe/Berlin';
const NEW_YORK = 'America/New_York';

const ticks = (expression: string, timeZone: string, after: string, count: number, anchor = after): string[] =>
  nextTicks({ expression, timeZone, anchorAt: new Date(anchor) }, new Date(after), count).map((tick) =>
    tick.toISOString().replace(':00.000Z', 'Z'),
  );

describe('ticks', () => {
  it('come behind the given time, which may be a tick itself', () => {
    const timing = { expression: '* * * * *', timeZone: 'UTC', anchorAt: new Date(0) };
    const minute = new Date('2026-01-01T00:01:00Z');
    expect(nextTick(timing, new Date(minute.getTime() - 1))).toEqual(minute);
    expect(nextTick(timing, minute)).toEqual(new Date('2026-01-01T00:02:00Z'));
  });

  it.each([
    ['30 2 * * *', ['2026-01-01T02:30Z', '2026-01-02T02:30Z']],
    ['0 12 L * *', ['2026-01-31T12:00Z', '2026-02-28T12:00Z']],
    // 15 February 2026 is a Sunday.
    ['0 12 15W 2 *', ['2026-02-16T12:00Z', '2027-02-15T12:00Z']],
    ['0 12 * * MON#2', ['2026-01-12T12:00Z', '2026-02-09T12:00Z']],
    ['0 12 * * FRIL', ['2026-01-30T12:00Z', '2026-02-27T12:00Z']],
    // Either of two restricted days, as cron has always had it.
    ['0 12 2 * MON', ['2026-01-02T12:00Z', '2026-01-05T12:00Z']],
    ['0 0 29 2 *', ['2028-02-29T00:00Z', '2032-02-29T00:00Z']],
    ['cron(0 12 1 1 ? 2026-2030/4)', ['2026-01-01T12:00Z', '2030-01-01T12:00Z']],
  ])('%s', (expression, expected) => expect(ticks(expression, 'UTC', '2026-01-01T00:00:00Z', 2)).toEqual(expected));

  it.each(['0 0 30 2 *', '0 0 31 4,6,9,11 *', 'cron(0 0 1 1 ? 2025)', 'cron(0 0 29 2 ? 2027)'])(
    '%s never comes',
    (expression) => expect(ticks(expression, 'UTC', '2026-01-01T00:00:00Z', 1)).toEqual([]),
  );

  it.each(['Mars/Phobos', '', '+02:00', 'Europe/Berlin\0', 'x'.repeat(100)])('the zone %j is refused', (timeZone) => {
    expect(() => timetableOf({ expression: '@daily', timeZone, anchorAt: new Date() })).toThrow(
      expect.objectContaining({ code: 'invalid_request', details: { field: 'timeZone' } }),
    );
  });
});

describe('when the clocks are set forward', () => {
  it.each([
    // 02:00 to 03:00 is skipped on 29 March and on 8 March.
    [BERLIN, '2026-03-28T12:00:00Z', ['2026-03-29T01:00Z', '2026-03-30T00:30Z']],
    [NEW_YORK, '2026-03-07T12:00:00Z', ['2026-03-08T07:00Z', '2026-03-09T06:30Z']],
  ])('02:30 daily ticks at the end of the gap, 03:00, in %s', (zone, after, expected) => {
    expect(ticks('30 2 * * *', zone, after, 2)).toEqual(expected);
  });

  it('times of a list that are skipped tick at the end of the gap, together and once', () => {
    expect(ticks('0,30 2,4 * * *', BERLIN, '2026-03-28T12:00:00Z', 3)).toEqual([
      '2026-03-29T01:00Z',
      '2026-03-29T02:00Z',
      '2026-03-29T02:30Z',
    ]);
  });

  it('an interval within the gap is skipped', () => {
    expect(ticks('*/30 2 * * *', BERLIN, '2026-03-28T12:00:00Z', 1)).toEqual(['2026-03-30T00:00Z']);
  });

  it('hourly goes on hour by hour', () => {
    expect(ticks('@hourly', BERLIN, '2026-03-28T23:30:00Z', 3)).toEqual([
      '2026-03-29T00:00Z',
      '2026-03-29T01:00Z',
      '2026-03-29T02:00Z',
    ]);
    expect(ticks('0 * * * *', NEW_YORK, '2026-03-08T05:30:00Z', 3)).toEqual([
      '2026-03-08T06:00Z',
      '2026-03-08T07:00Z',
      '2026-03-08T08:00Z',
    ]);
  });
});

describe('when the clocks are set back', () => {
  it.each([
    // 02:00 to 03:00 comes twice on 25 October, 01:00 to 02:00 on 1 November.
    [BERLIN, '30 2 * * *', '2026-10-24T12:00:00Z', ['2026-10-25T00:30Z', '2026-10-26T01:30Z']],
    [NEW_YORK, '30 1 * * *', '2026-10-31T12:00:00Z', ['2026-11-01T05:30Z', '2026-11-02T06:30Z']],
  ])('a time of day that comes twice ticks the first time only, in %s', (zone, expression, after, expected) => {
    expect(ticks(expression, zone, after, 2)).toEqual(expected);
    // Also for somebody who asks between the two.
    expect(ticks(expression, zone, expected[0]?.replace('Z', ':01Z') ?? '', 1)).toEqual(expected.slice(1));
  });

  it('an interval goes on through both hours', () => {
    expect(ticks('*/30 2 * * *', BERLIN, '2026-10-24T12:00:00Z', 4)).toEqual([
      '2026-10-25T00:00Z',
      '2026-10-25T00:30Z',
      '2026-10-25T01:00Z',
      '2026-10-25T01:30Z',
    ]);
  });

  it('hourly ticks 25 times that day', () => {
    expect(
      ticks('@hourly', BERLIN, '2026-10-24T21:59:59Z', 26).filter((tick) => tick < '2026-10-25T23:00Z'),
    ).toHaveLength(25);
    expect(
      ticks('@hourly', NEW_YORK, '2026-11-01T03:59:59Z', 26).filter((tick) => tick < '2026-11-02T05:00Z'),
    ).toHaveLength(25);
  });
});

describe('rate()', () => {
  it('counts from its anchor, the first interval included', () => {
    const anchor = '2026-01-01T00:00:10Z';
    expect(ticks('rate(5 minutes)', 'UTC', '2025-12-31T00:00:00Z', 1, anchor)).toEqual(['2026-01-01T00:05:10.000Z']);
    expect(ticks('rate(5 minutes)', 'UTC', '2026-01-01T00:05:10Z', 1, anchor)).toEqual(['2026-01-01T00:10:10.000Z']);
  });

  it.each([
    [BERLIN, '2026-03-28T10:00:00Z', ['2026-03-29T10:00Z', '2026-03-30T10:00Z']],
    [NEW_YORK, '2026-10-31T10:00:00Z', ['2026-11-01T10:00Z', '2026-11-02T10:00Z']],
  ])('knows no clocks: a day is 24 hours, in %s too', (zone, after, expected) => {
    expect(ticks('rate(1 day)', zone, after, 2)).toEqual(expected);
  });
});
