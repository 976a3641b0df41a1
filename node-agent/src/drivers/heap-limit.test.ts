import { expect, test } from 'vitest';
import { HeapAbort } from './heap-abort.js';
import { heapLimitMb } from './heap-limit.js';

test.each([
  [64, 32],
  [128, 64],
  [256, 192],
  [512, 448],
  [1024, 921],
  [10240, 9216],
])('a sandbox of %i MB has a heap of %i MB', (memoryMb, heapMb) => {
  expect(heapLimitMb(memoryMb)).toBe(heapMb);
});

test('the abort of V8 is recognised when its words are cut in two', () => {
  const watch = new HeapAbort();
  watch.push(Buffer.from('FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap ou'));
  expect(watch.seen).toBe(false);
  watch.push(Buffer.from('t of memory\n'));
  expect(watch.seen).toBe(true);
});
