import { expect, it } from 'vitest';
import { renderWaterfall } from './waterfall.js';

it('draws each phase behind the one before, and what none of them accounts for', () => {
  const receipt = {
    resolveMs: 0.01,
    admitMs: 0,
    queueMs: 10,
    sandboxMs: 20,
    initMs: 40,
    runMs: 20,
    totalMs: 100,
    cpuMs: 7,
  };
  expect(renderWaterfall(receipt).split('\n')).toEqual([
    'resolve         0.01 ms  ▏',
    'queue          10.00 ms  ████',
    'sandbox        20.00 ms      ████████',
    'init           40.00 ms              ████████████████',
    'run            20.00 ms                              ████████',
    'other           9.99 ms                                      ████',
    'total         100.00 ms  ████████████████████████████████████████',
    '',
  ]);
});

it('adds the phases up when there is no total, and draws nothing of nothing', () => {
  expect(renderWaterfall({ runMs: 1.5 })).toContain('total           1.50 ms');
  expect(renderWaterfall({ memoryMb: 128 })).toBe('');
  expect(renderWaterfall({ runMs: 'x' })).toBe('');
});
