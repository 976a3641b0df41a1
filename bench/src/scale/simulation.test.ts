import { expect, it } from 'vitest';
import { EventQueue } from './event-queue.js';
import { FunctionMix } from './function-mix.js';
import { fixedKeepAlive, histogramKeepAlive } from './keep-alive-policies.js';
import { Random } from './random.js';
import { SimulatedFleet } from './simulated-fleet.js';

it('takes events in the order of their times', () => {
  const random = new Random(1);
  const queue = new EventQueue<number>();
  const times = Array.from({ length: 500 }, () => random.below(1_000));
  for (const at of times) queue.push(at, at);
  const taken = times.map(() => {
    expect(queue.nextAt).toBeLessThan(1_000);
    return queue.pop();
  });
  expect(taken).toEqual(times.toSorted((a, b) => a - b));
  expect(queue.pop()).toBeUndefined();
});

it('gives a fifth of the functions most of the calls', async () => {
  const random = new Random(2);
  const mix = await FunctionMix.create(1_000, random);
  const calls = new Map<number, number>();
  for (let n = 0; n < 20_000; n += 1) {
    const { index } = mix.pick(random);
    calls.set(index, (calls.get(index) ?? 0) + 1);
  }
  const most = [...calls.values()].toSorted((a, b) => b - a).slice(0, 200);
  expect(most.reduce((sum, count) => sum + count, 0) / 20_000).toBeGreaterThan(0.8);
});

it('simulates the same for the same seed', async () => {
  const run = async () => {
    const mix = await FunctionMix.create(100, new Random(3));
    const fleet = new SimulatedFleet({
      ...{ nodes: 10, mix, callsPerSecond: 16, seed: 4, keepAlive: fixedKeepAlive(1) },
      signal: new AbortController().signal,
    });
    await fleet.runMs(120_000);
    const { calls, warm, refused, idleByteMs } = fleet.figures;
    fleet.close();
    return { calls, warm, refused, idleByteMs };
  };
  const once = await run();
  expect(once.calls).toBeGreaterThan(1_000);
  expect(once.warm).toBeGreaterThan(0);
  expect(once.warm).toBeLessThan(once.calls);
  expect(await run()).toEqual(once);
});

it('keeps sandboxes as long as the gaps of their function were', () => {
  const histogram = histogramKeepAlive(2);
  expect(histogram.keepAliveMs(0)).toBe(600_000);
  for (let n = 0; n < 10; n += 1) histogram.observeGap(0, 150_000);
  expect(histogram.keepAliveMs(0)).toBe(180_000);
  for (let n = 0; n < 10; n += 1) histogram.observeGap(1, 90 * 60_000);
  expect(histogram.keepAliveMs(1)).toBe(60_000);
});
