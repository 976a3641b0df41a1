import type { VersionSpec } from '@lambda-fleet/proto';
import { describe, expect, it } from 'vitest';
import type { NodeOffer } from './cluster-view.js';
import { type DrainPlanInput, type PlannedNode, planDrain } from './drain-plan.js';

const MB = 1024 * 1024;

function node(id: string, given: Partial<NodeOffer & { slotsTotal: number }> = {}, memoryMb = 1_024): PlannedNode {
  const { slotsTotal = 4, ...offer } = given;
  return {
    id,
    offer: { runtimes: ['nodejs'], isolation: ['runc'], networks: ['none'], architecture: 'x64', labels: [], ...offer },
    slotsTotal,
    memoryBytesTotal: memoryMb * MB,
  };
}

const floor = (functionName: string, sandboxes: number, memoryMb = 128) => ({
  spec: {
    ...{
      versionId: functionName,
      functionId: functionName,
      functionName,
      runtime: 'nodejs',
      network: 'none',
      memoryMb,
    },
  } as VersionSpec,
  isolation: 'runc',
  sandboxes,
  labels: [],
});

const need = {
  functionName: 'greet',
  runtime: 'nodejs',
  isolation: 'auto',
  network: 'none',
  architecture: '',
  labels: {},
};

const plan = (given: Partial<DrainPlanInput>) =>
  planDrain({ going: [node('a')], staying: [node('b')], floors: [], needs: [], minEligible: 0, ...given });

const checks = (given: Partial<DrainPlanInput>) => plan(given).reasons.map(({ check, override }) => [check, override]);

describe('planDrain', () => {
  it('finds nothing to say where the others can do everything', () => {
    const { reasons, moves } = plan({ floors: [floor('greet', 4)], needs: [need] });
    expect(reasons).toEqual([]);
    expect(moves).toEqual([{ functionName: 'greet', sandboxes: 2, to: [{ node: 'b', sandboxes: 2 }] }]);
  });

  it.each([
    ['slots', [floor('greet', 5)]],
    ['memory', [floor('greet', 3, 400)]],
    ['slots of all floors together', [floor('greet', 3), floor('resize', 3)]],
    ['memory of all floors together', [floor('greet', 2, 400), floor('resize', 1, 400)]],
  ])('refuses to break a floor for want of %s', (_, floors) => {
    expect(checks({ floors })).toContainEqual(['provisioned-floor', '--force']);
  });

  it('refuses to break a floor that only nodes with its labels can keep', () => {
    const going = [node('a', { labels: ['zone=a'] })];
    const floors = [{ ...floor('greet', 1), labels: ['zone=a'] }];
    expect(checks({ going, staying: [node('b', { labels: ['zone=b'] })], floors })).toEqual([
      ['provisioned-floor', '--force'],
    ]);
    expect(checks({ going, staying: [node('b', { labels: ['zone=a'] })], floors })).toEqual([]);
  });

  it('does not blame the drain for a floor that the whole fleet cannot keep either', () => {
    expect(checks({ going: [node('a', { isolation: [] })], floors: [floor('greet', 50)] })).toEqual([]);
  });

  it.each([
    ['runtime', { runtimes: ['python'] }, {}],
    ['isolation', { isolation: ['runc'] }, { isolation: 'gvisor' }],
    ['network', { networks: ['none'] }, { network: 'egress' }],
    ['architecture', { architecture: 'arm64' }, { architecture: 'x64' }],
    ['label zone=a', { labels: ['zone=b'] }, { labels: { zone: 'a' } }],
  ] as const)('refuses to take the last node with the %s that a function needs', (what, other, asks) => {
    const all = { isolation: ['runc', 'gvisor'], networks: ['none', 'egress'], labels: ['zone=a'] };
    const given = { going: [node('a', all)], staying: [node('b', other)], needs: [{ ...need, ...asks }] };
    expect(checks(given)).toEqual([['no-node', '--force']]);
    expect(plan(given).reasons[0]?.message).toContain(what);
    expect(checks({ ...given, staying: [node('b', all)] })).toEqual([]);
  });

  it('counts none of the nodes that go together as one that is left', () => {
    expect(checks({ going: [node('a'), node('b')], staying: [], needs: [need] })).toEqual([['no-node', '--force']]);
  });

  it('refuses to leave fewer eligible nodes than were asked for', () => {
    expect(checks({ minEligible: 1 })).toEqual([]);
    expect(checks({ minEligible: 2 })).toEqual([['min-eligible', '--min-eligible']]);
  });
});
