import { expect, it } from 'vitest';
import { assignFloors } from './assign-floors.js';
import type { NodeView } from './cluster-view.js';

const SPEC = { functionId: 'f', runtime: 'nodejs', network: 'none' };

function node(id: string, options: { slots?: number; isolation?: string[]; networks?: string[] } = {}): NodeView {
  return {
    id,
    slotsTotal: options.slots ?? 10,
    runtimes: new Set(['nodejs']),
    isolation: new Set(options.isolation ?? ['runc']),
    networks: new Set(options.networks ?? ['none']),
  } as unknown as NodeView;
}

const total = (floors: ReadonlyMap<string, number>) => [...floors.values()].reduce((sum, floor) => sum + floor, 0);

it('spreads a floor evenly, whatever the order of the nodes', () => {
  const nodes = ['a', 'b', 'c'].map((id) => node(id));
  const floors = assignFloors(nodes, SPEC, 'runc', 7);
  expect([...floors.values()].toSorted()).toEqual([2, 2, 3]);
  expect(new Map(assignFloors(nodes.toReversed(), SPEC, 'runc', 7))).toEqual(floors);
});

it('keeps nothing where it cannot run, and no more than there are slots', () => {
  const nodes = [node('other', { isolation: ['gvisor'] }), node('small', { slots: 2 }), node('large')];
  const floors = assignFloors(nodes, SPEC, 'runc', 9);
  expect(floors.get('other')).toBeUndefined();
  expect(floors.get('small')).toBe(2);
  expect(total(floors)).toBe(9);
  expect(total(assignFloors([node('a', { slots: 2 })], SPEC, 'runc', 9))).toBe(2);
  expect(total(assignFloors(nodes, { ...SPEC, network: 'egress' }, 'runc', 9))).toBe(0);
});

it('moves little when a node joins', () => {
  const before = assignFloors(
    ['a', 'b', 'c'].map((id) => node(id)),
    SPEC,
    'runc',
    3,
  );
  const after = assignFloors(
    ['a', 'b', 'c', 'd'].map((id) => node(id)),
    SPEC,
    'runc',
    3,
  );
  expect([...before.keys()].filter((id) => !after.has(id)).length).toBeLessThanOrEqual(1);
});
