import { expect, test } from 'vitest';
import { BlankDemand } from './blank-demand.js';
import type { SandboxKind } from './sandbox-kind.js';

const kind = (heapMemoryMb: number): SandboxKind => ({
  runtime: 'nodejs',
  isolation: 'runc',
  network: 'none',
  heapMemoryMb,
  fixedLimits: undefined,
});
const counts = (demand: BlankDemand, max: number, now: number) =>
  Object.fromEntries([...demand.targets(max, now).values()].map((target) => [target.kind.heapMemoryMb, target.count]));

const MINUTE = 60_000;

test('every kind that is wanted gets one, and the rest goes to those that are wanted most', () => {
  const demand = new BlankDemand();
  for (let i = 0; i < 9; i += 1) demand.note(kind(512), 0);
  for (let i = 0; i < 3; i += 1) demand.note(kind(128), 0);
  demand.note(kind(1024), 0);
  expect(counts(demand, 6, 0)).toEqual({ 512: 4, 128: 1, 1024: 1 });
});

test('with more kinds than places those that are wanted most get one', () => {
  const demand = new BlankDemand();
  for (let i = 0; i < 3; i += 1) demand.note(kind(512), 0);
  for (let i = 0; i < 2; i += 1) demand.note(kind(128), 0);
  demand.note(kind(1024), 0);
  expect(counts(demand, 2, 0)).toEqual({ 512: 1, 128: 1 });
  expect(counts(demand, 0, 0)).toEqual({});
});

test('old demand counts less and is forgotten at last', () => {
  const demand = new BlankDemand();
  for (let i = 0; i < 4; i += 1) demand.note(kind(512), 0);
  demand.note(kind(128), 60 * MINUTE);
  demand.note(kind(128), 60 * MINUTE);
  expect(demand.kinds(60 * MINUTE).map(({ heapMemoryMb }) => heapMemoryMb)).toEqual([128, 512]);
  expect(counts(demand, 4, 170 * MINUTE)).toEqual({ 128: 4 });
  expect(counts(demand, 4, 600 * MINUTE)).toEqual({});
});

test('a function that asks for ever new kinds cannot make it remember them all', () => {
  const demand = new BlankDemand();
  for (let i = 0; i < 5; i += 1) demand.note(kind(512), 0);
  for (let memory = 1; memory <= 1_000; memory += 1) demand.note(kind(memory), 0);
  expect(demand.kinds(0).length).toBeLessThanOrEqual(64);
  expect(demand.kinds(0)[0]?.heapMemoryMb).toBe(512);
});

test('tells when a kind is new', () => {
  const demand = new BlankDemand();
  expect(demand.note(kind(1), 0)).toBe(true);
  expect(demand.note(kind(1), 0)).toBe(false);
});
