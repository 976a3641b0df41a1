import { expect, it } from 'vitest';
import type { NodeView } from './cluster-view.js';
import { IsolationPolicy } from './isolation-policy.js';

const node = (isolation: string[], eligible = true) =>
  ({ isolation: new Set(isolation), eligible }) as unknown as NodeView;

it.each<['gvisor' | 'runc', NodeView[], string]>([
  ['gvisor', [node(['runc']), node(['runc', 'gvisor'])], 'gvisor'],
  ['gvisor', [node(['runc']), node(['runc', 'gvisor'], false)], 'runc'],
  ['gvisor', [node(['none'])], 'none'],
  ['gvisor', [], 'runc'],
  ['runc', [node(['runc', 'gvisor'])], 'runc'],
  ['runc', [node(['none']), node(['runc'])], 'runc'],
])('with the policy %s and nodes %j, auto is %s', (policy, nodes, expected) => {
  const decide = new IsolationPolicy(policy, { nodes, size: nodes.length });
  expect(decide.isolationOf('auto', 0)).toBe(expected);
});

it('never changes what a function names', () => {
  const decide = new IsolationPolicy('gvisor', { nodes: [node(['none'])], size: 1 });
  expect(decide.isolationOf('gvisor', 0)).toBe('gvisor');
  expect(decide.isolationOf('runc', 0)).toBe('runc');
});

it('notices that a node came when it is told, or within a tenth of a second', () => {
  const nodes = [node(['runc'])];
  const decide = new IsolationPolicy('gvisor', { nodes, size: 1 });
  expect(decide.isolationOf('auto', 0)).toBe('runc');
  nodes.push(node(['gvisor']));
  expect(decide.isolationOf('auto', 100)).toBe('gvisor');
  nodes.pop();
  expect(decide.isolationOf('auto', 150)).toBe('gvisor');
  decide.nodesChanged();
  expect(decide.isolationOf('auto', 150)).toBe('runc');
});
