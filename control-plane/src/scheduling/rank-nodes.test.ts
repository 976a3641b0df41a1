import { describe, expect, it } from 'vitest';
import { CANDIDATES_MAX, missingFor, rankNodes } from './rank-nodes.js';
import { SKETCHED_DEMAND as DEMAND, type NodeSketch, sketchedCluster } from './sketched-cluster.js';

const rank = (nodes: Readonly<Record<string, NodeSketch>>, demand = DEMAND) =>
  rankNodes(sketchedCluster(nodes), demand);

/** Ordinary idle nodes. */
const idle = (...ids: string[]): Record<string, NodeSketch> => Object.fromEntries(ids.map((id) => [id, {}]));

/** n0, n1 and so on. */
const many = (count: number, sketch: (n: number) => NodeSketch = () => ({})): Record<string, NodeSketch> =>
  Object.fromEntries(Array.from({ length: count }, (_, n) => [`n${n}`, sketch(n)]));

describe('rankNodes', () => {
  it.each<[string, NodeSketch]>([
    ['is not eligible', { eligible: false }],
    ['has no slot', { free: 0 }],
    ['has too little memory', { memory: 99 }],
    ['does not have the runtime', { runtimes: ['python'] }],
    ['does not have the isolation', { isolation: ['gvisor'] }],
  ])('leaves out a node that %s', (_why, sketch) => {
    expect(rank({ a: sketch })).toEqual([]);
  });

  it('gives a container image to nodes of its architecture only', () => {
    expect(rank(idle('a'), { ...DEMAND, architecture: 'x64' })).toEqual(['a']);
    expect(rank(idle('a'), { ...DEMAND, architecture: 'arm64' })).toEqual([]);
    expect(missingFor(sketchedCluster(idle('a')), { ...DEMAND, architecture: 'arm64' })).toContain('on arm64');
  });

  it('gives a function that asks for labels to nodes with all of them, however few they are', () => {
    const demand = { ...DEMAND, labels: ['zone=a', 'disk=ssd'] };
    const nodes = {
      ...many(2_000, () => ({ labels: ['zone=a'], sandboxes: 1 })),
      both: { labels: ['disk=ssd', 'zone=a'] },
      other: { labels: ['disk=ssd', 'zone=b'], sandboxes: 1, blanks: 1 },
    };
    expect(rank(nodes, demand)).toEqual(['both']);
    expect(rank({ a: { labels: ['zone=b'] } }, demand)).toEqual([]);
    expect(missingFor(sketchedCluster(nodes), demand)).toBeUndefined();
    const none = { ...DEMAND, labels: ['zone=a', 'zone=b'] };
    expect(missingFor(sketchedCluster(nodes), none)).toContain('the labels zone=a, zone=b');
  });

  it('puts a node with an idle sandbox of the version first', () => {
    for (const first of ['a', 'b', 'c']) {
      expect(rank({ ...idle('a', 'b', 'c'), [first]: { sandboxes: 1 } })[0]).toBe(first);
    }
  });

  it('does not count a sandbox as idle when an invocation is on its way to it', () => {
    const ranked = rank({
      busy: { sandboxes: 2, inFlight: 2, free: 8 },
      idle: { sandboxes: 3, inFlight: 2, free: 1 },
    });
    expect(ranked[0]).toBe('idle');
  });

  it('counts a sandbox as often as it takes invocations at once', () => {
    const shared = { sandboxes: 1, inFlight: 9 };
    expect(rank({ a: {}, shared }, { ...DEMAND, concurrency: 10 })[0]).toBe('shared');
    expect(rank({ a: { blanks: 1 }, shared }, { ...DEMAND, concurrency: 9 })[0]).toBe('a');
  });

  it('puts a node with a blank before all without, and after a warm one', () => {
    const nodes = { cold: {}, blank: { blanks: 1, free: 1 } };
    expect(rank(nodes)).toEqual(['blank', 'cold']);
    expect(rank({ ...nodes, warm: { sandboxes: 1 } })[0]).toBe('warm');
  });

  it('prefers the fullest of the warm nodes, so that the others can empty', () => {
    expect(rank({ a: { sandboxes: 1, free: 9 }, b: { sandboxes: 1, free: 2 } })).toEqual(['b', 'a']);
  });

  it('sends the cold starts of one function to the same node while that is not overloaded', () => {
    const names = ['a', 'b', 'c', 'd'];
    const once = rank(idle(...names));
    expect(once.toSorted()).toEqual(names);
    expect(rank(idle(...names.toReversed()))).toEqual(once);
    const [favourite = ''] = once;
    expect(rank({ ...idle(...names), [favourite]: { free: 1 } })[0]).not.toBe(favourite);
  });

  it('spreads functions over nodes', () => {
    const nodes = idle('a', 'b', 'c', 'd');
    const counts = new Map<string, number>();
    for (let i = 0; i < 400; i += 1) {
      const [first = ''] = rank(nodes, { ...DEMAND, functionId: `f${i}` });
      counts.set(first, (counts.get(first) ?? 0) + 1);
    }
    for (const count of counts.values()) expect(count).toBeGreaterThan(50);
    expect(counts.size).toBe(4);
  });

  it('names no more candidates than may be tried', () => {
    expect(rank(many(40))).toHaveLength(CANDIDATES_MAX);
    expect(rank(many(40, () => ({ sandboxes: 1 })))).toHaveLength(CANDIDATES_MAX);
  });

  it('leaves out nodes that refused, and finds another whenever one fits', () => {
    const nodes = { ...many(30, () => ({ sandboxes: 1 })), last: {}, full: { free: 0 } };
    const refused = new Set(Array.from({ length: 30 }, (_, n) => `n${n}`));
    expect(rankNodes(sketchedCluster(nodes), DEMAND, refused)).toEqual(['last']);
    expect(rankNodes(sketchedCluster({ a: {} }), DEMAND, new Set(['a']))).toEqual([]);
  });

  it('finds the only node of thousands that has room, a blank or a free sandbox', () => {
    const only = (last: NodeSketch, others: NodeSketch) => rank(many(3_000, (n) => (n === 2_999 ? last : others)));
    expect(only({}, { free: 0 })).toEqual(['n2999']);
    expect(only({}, { memory: 99 })).toEqual(['n2999']);
    expect(only({ blanks: 1 }, {})[0]).toBe('n2999');
    expect(only({ sandboxes: 1 }, { sandboxes: 1, free: 0 })).toEqual(['n2999']);
    expect(only({ sandboxes: 1 }, { sandboxes: 1, inFlight: 1 })[0]).toBe('n2999');
  });

  it('gives an invocation that runs alone a node where nothing is reserved', () => {
    const nodes = many(200, (n) => ({ free: n === 7 ? 10 : 9 }));
    expect(rank(nodes, { ...DEMAND, amount: 'whole-node' })).toEqual(['n7']);
  });
});

describe('missingFor', () => {
  const missing = (sketch: NodeSketch) => missingFor(sketchedCluster({ a: sketch }), DEMAND);

  it('counts a node that is full, but not one that is out of service', () => {
    expect(missing({ free: 0 })).toBeUndefined();
    expect(missing({ eligible: false })).toBe('the runtime nodejs');
  });

  it('names what no node has', () => {
    expect(missing({ runtimes: ['python'] })).toBe('the runtime nodejs');
    expect(missing({ isolation: ['gvisor'] })).toBe('the runtime nodejs with isolation runc');
  });
});
