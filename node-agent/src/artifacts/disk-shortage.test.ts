import { expect, test } from 'vitest';
import { type DiskUse, shortageOf } from './disk-shortage.js';

const GIB = 1024 * 1024 * 1024;
const disk = (totalGib: number, freeGib: number, files = 0, ffree = 0): DiskUse => ({
  bsize: 4096,
  blocks: (totalGib * GIB) / 4096,
  bavail: (freeGib * GIB) / 4096,
  files,
  ffree,
});

test('a disk is short below 5 %, and then of what is missing to 10 %', () => {
  expect(shortageOf(disk(20, 1.01))).toBe(0);
  expect(shortageOf(disk(20, 0.5))).toBe(1.5 * GIB);
});

test('a large disk is short below 5 GiB, and then of what is missing to 10 GiB', () => {
  expect(shortageOf(disk(4_000, 6))).toBe(0);
  expect(shortageOf(disk(4_000, 4))).toBe(6 * GIB);
});

test('a disk that runs out of files is short of all there is', () => {
  expect(shortageOf(disk(20, 10, 1_000, 60))).toBe(0);
  expect(shortageOf(disk(20, 10, 1_000, 40))).toBe(Number.POSITIVE_INFINITY);
});
