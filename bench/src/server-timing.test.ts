import { expect, it } from 'vitest';
import { parseServerTiming } from './server-timing.js';

it('durations are read by name, whatever else an entry carries', () => {
  const durations = parseServerTiming('resolve;dur=0.05, run;desc="the handler";dur=1.5,cache, total;dur=2');
  expect([...durations]).toEqual([
    ['resolve', 0.05],
    ['run', 1.5],
    ['total', 2],
  ]);
});

it('an empty header has no durations', () => {
  expect([...parseServerTiming('')]).toEqual([]);
});
