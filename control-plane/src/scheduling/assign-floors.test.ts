import { expect, it } from 'vitest';
import { assignFloors } from './assign-floors.js';
import { type NodeSketch, sketchedCluster } from './sketched-cluster.js';

const SPEC = { functionId: 'f', runtime: 'nodejs', network: 'none' };

const assign = (nodes: Record<string, NodeSketch>, sandboxes: number, spec = SPEC, labels: string[] = []) =>
  assignFloors(sketchedCluster(nodes), spec, 'runc', sandboxes, labels);
const total = (floors: ReadonlyMap<string, number>) => [...floors.values()].reduce((sum, floor) => sum + floor, 0);

it('spreads a floor evenly, whatever the order in which the nodes came', () => {
  const floors = assign({ a: {}, b: {}, c: {} }, 7);
  expect([...floors.values()].toSorted()).toEqual([2, 2, 3]);
  expect(new Map(assign({ c: {}, b: {}, a: {} }, 7))).toEqual(floors);
});

it('keeps nothing where it cannot run, and no more than there are slots', () => {
  const nodes = {
    other: { isolation: ['gvisor'] },
    cordoned: { eligible: false },
    slotless: { slots: 0 },
    small: { slots: 2 },
    large: {},
  };
  expect(new Map(assign(nodes, 9))).toEqual(
    new Map([
      ['small', 2],
      ['large', 7],
    ]),
  );
  expect(total(assign({ a: { slots: 2 } }, 9))).toBe(2);
  expect(total(assign(nodes, 9, { ...SPEC, network: 'egress' }))).toBe(0);
});

it('keeps a container image on nodes of its architecture', () => {
  const image = { architecture: 'arm64' } as NonNullable<Parameters<typeof assignFloors>[1]['image']>;
  const nodes = { a: {}, b: { architecture: 'arm64' }, c: {} };
  expect([...assign(nodes, 3, { ...SPEC, image } as typeof SPEC).keys()]).toEqual(['b']);
});

it('keeps a function that asks for labels on nodes that have them', () => {
  const nodes = { a: { labels: ['zone=a'] }, b: { labels: ['zone=b'] }, c: {} };
  expect([...assign(nodes, 3, SPEC, ['zone=b']).keys()]).toEqual(['b']);
});

it('moves little when a node joins', () => {
  const before = assign({ a: {}, b: {}, c: {} }, 3);
  const after = assign({ a: {}, b: {}, c: {}, d: {} }, 3);
  expect([...before.keys()].filter((id) => !after.has(id)).length).toBeLessThanOrEqual(1);
});

it('gives one to each of many nodes before any gets a second', () => {
  const nodes = Object.fromEntries(Array.from({ length: 500 }, (_, n) => [`n${n}`, {}]));
  expect(new Set(assign(nodes, 500).values())).toEqual(new Set([1]));
  expect([...assign(nodes, 20).values()]).toEqual(Array(20).fill(1));
});
