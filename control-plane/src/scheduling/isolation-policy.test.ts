import { expect, it } from 'vitest';
import { IsolationPolicy } from './isolation-policy.js';
import { type NodeSketch, putSketch, sketchedCluster } from './sketched-cluster.js';

const node = (isolation: string[], eligible = true): NodeSketch => ({ isolation, eligible });
const cluster = (nodes: NodeSketch[]) =>
  sketchedCluster(Object.fromEntries(nodes.map((sketch, n) => [`n${n}`, sketch])));

it.each<['gvisor' | 'runc', NodeSketch[], string]>([
  ['gvisor', [node(['runc']), node(['runc', 'gvisor'])], 'gvisor'],
  ['gvisor', [node(['runc']), node(['runc', 'gvisor'], false)], 'runc'],
  ['gvisor', [node(['none'])], 'none'],
  ['gvisor', [], 'runc'],
  ['runc', [node(['runc', 'gvisor'])], 'runc'],
  ['runc', [node(['none']), node(['runc'])], 'runc'],
])('with the policy %s and nodes %j, auto is %s', (policy, nodes, expected) => {
  const decide = new IsolationPolicy(policy, cluster(nodes));
  expect(decide.isolationOf('auto', 0)).toBe(expected);
});

it('never changes what a function names', () => {
  const decide = new IsolationPolicy('gvisor', cluster([node(['none'])]));
  expect(decide.isolationOf('gvisor', 0)).toBe('gvisor');
  expect(decide.isolationOf('runc', 0)).toBe('runc');
});

it('notices that a node came when it is told, or within a tenth of a second', () => {
  const view = cluster([node(['runc'])]);
  const decide = new IsolationPolicy('gvisor', view);
  expect(decide.isolationOf('auto', 0)).toBe('runc');
  putSketch(view, 'another', node(['gvisor']));
  expect(decide.isolationOf('auto', 100)).toBe('gvisor');
  view.remove('another');
  expect(decide.isolationOf('auto', 150)).toBe('gvisor');
  decide.nodesChanged();
  expect(decide.isolationOf('auto', 150)).toBe('runc');
});
