import { describe, expect, it } from 'vitest';
import type { Demand, NodeView } from './cluster-view.js';
import { CANDIDATES_MAX, missingFor, rankNodes } from './rank-nodes.js';

const DEMAND: Demand = {
  functionId: 'f',
  versionId: 'v',
  runtime: 'nodejs',
  isolation: 'runc',
  network: 'none',
  architecture: '',
  memoryMb: 100,
  concurrency: 1,
  amount: { memoryBytes: 100, milliSlots: 1_000 },
};

interface Sketch {
  eligible?: boolean;
  runtimes?: string[];
  isolation?: string[];
  blanks?: number;
  memory?: number;
  free?: number;
  sandboxes?: number;
  inFlight?: number;
}

function node(id: string, sketch: Sketch = {}): NodeView {
  return {
    id,
    eligible: sketch.eligible ?? true,
    runtimes: new Set(sketch.runtimes ?? ['nodejs']),
    isolation: new Set(sketch.isolation ?? ['runc']),
    networks: new Set(['none']),
    architecture: 'x64',
    memoryBytesFree: sketch.memory ?? 1_000,
    slotsFree: sketch.free ?? 10,
    slotsTotal: 10,
    sandboxesOf: () => sketch.sandboxes ?? 0,
    inFlightOf: () => sketch.inFlight ?? 0,
    blanksFor: () => sketch.blanks ?? 0,
  };
}

const rank = (nodes: NodeView[], demand = DEMAND) =>
  rankNodes({ nodes, size: nodes.length }, demand).map(({ id }) => id);

describe('rankNodes', () => {
  it.each<[string, Sketch]>([
    ['is not eligible', { eligible: false }],
    ['has no slot', { free: 0 }],
    ['has too little memory', { memory: 99 }],
    ['does not have the runtime', { runtimes: ['python'] }],
    ['does not have the isolation', { isolation: ['gvisor'] }],
  ])('leaves out a node that %s', (_why, sketch) => {
    expect(rank([node('a', sketch)])).toEqual([]);
  });

  it('gives a container image to nodes of its architecture only', () => {
    expect(rank([node('a')], { ...DEMAND, architecture: 'x64' })).toEqual(['a']);
    expect(rank([node('a')], { ...DEMAND, architecture: 'arm64' })).toEqual([]);
    expect(missingFor({ nodes: [node('a')], size: 1 }, { ...DEMAND, architecture: 'arm64' })).toContain('on arm64');
  });

  it('puts a node with an idle sandbox of the version first', () => {
    for (const first of ['a', 'b', 'c']) {
      const nodes = ['a', 'b', 'c'].map((id) => node(id, id === first ? { sandboxes: 1 } : {}));
      expect(rank(nodes)[0]).toBe(first);
    }
  });

  it('does not count a sandbox as idle when an invocation is on its way to it', () => {
    const ranked = rank([
      node('busy', { sandboxes: 2, inFlight: 2, free: 8 }),
      node('idle', { sandboxes: 3, inFlight: 2, free: 1 }),
    ]);
    expect(ranked[0]).toBe('idle');
  });

  it('counts a sandbox as often as it takes invocations at once', () => {
    const nodes = [node('a'), node('shared', { sandboxes: 1, inFlight: 9 })];
    expect(rank(nodes, { ...DEMAND, concurrency: 10 })[0]).toBe('shared');
    expect(rank([node('a', { blanks: 1 }), nodes[1] ?? node('b')], { ...DEMAND, concurrency: 9 })[0]).toBe('a');
  });

  it('puts a node with a blank before all without, and after a warm one', () => {
    const nodes = [node('cold'), node('blank', { blanks: 1, free: 1 }), node('warm', { sandboxes: 1 })];
    expect(rank(nodes)).toEqual(['warm', 'blank', 'cold']);
  });

  it('prefers the fullest of the warm nodes, so that the others can empty', () => {
    expect(rank([node('a', { sandboxes: 1, free: 9 }), node('b', { sandboxes: 1, free: 2 })])).toEqual(['b', 'a']);
  });

  it('sends the cold starts of one function to the same node while that is not overloaded', () => {
    const names = ['a', 'b', 'c', 'd'];
    const once = rank(names.map((id) => node(id)));
    expect(rank(names.reverse().map((id) => node(id)))).toEqual(once);
    const [favourite = ''] = once;
    expect(rank(names.map((id) => node(id, id === favourite ? { free: 1 } : {})))[0]).not.toBe(favourite);
  });

  it('spreads functions over nodes', () => {
    const nodes = ['a', 'b', 'c', 'd'].map((id) => node(id));
    const counts = new Map<string, number>();
    for (let i = 0; i < 400; i += 1) {
      const [first = ''] = rank(nodes, { ...DEMAND, functionId: `f${i}` });
      counts.set(first, (counts.get(first) ?? 0) + 1);
    }
    for (const count of counts.values()) expect(count).toBeGreaterThan(50);
    expect(counts.size).toBe(4);
  });

  it('names no more candidates than may be tried', () => {
    expect(rank(Array.from({ length: 40 }, (_, i) => node(`n${i}`)))).toHaveLength(CANDIDATES_MAX);
  });
});

describe('missingFor', () => {
  const missing = (sketch: Sketch) => missingFor({ nodes: [node('a', sketch)], size: 1 }, DEMAND);

  it('counts a node that is full, but not one that is out of service', () => {
    expect(missing({ free: 0 })).toBeUndefined();
    expect(missing({ eligible: false })).toBe('the runtime nodejs');
  });

  it('names what no node has', () => {
    expect(missing({ runtimes: ['python'] })).toBe('the runtime nodejs');
    expect(missing({ isolation: ['gvisor'] })).toBe('the runtime nodejs with isolation runc');
  });
});
