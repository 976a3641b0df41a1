import { describe, expect, it } from 'vitest';
import type { Demand, NodeView } from './cluster-view.js';
import { CANDIDATES_MAX, offersRuntime, rankNodes } from './rank-nodes.js';

const DEMAND: Demand = { functionId: 'f', versionId: 'v', runtime: 'nodejs', memoryBytes: 100 };

interface Sketch {
  eligible?: boolean;
  runtimes?: string[];
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
    memoryBytesFree: sketch.memory ?? 1_000,
    slotsFree: sketch.free ?? 10,
    slotsTotal: 10,
    sandboxesOf: () => sketch.sandboxes ?? 0,
    inFlightOf: () => sketch.inFlight ?? 0,
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
  ])('leaves out a node that %s', (_why, sketch) => {
    expect(rank([node('a', sketch)])).toEqual([]);
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

describe('offersRuntime', () => {
  it('counts a node that is full, but not one that is out of service', () => {
    const full = [node('a', { free: 0, runtimes: ['python'] })];
    const out = [node('a', { eligible: false, runtimes: ['python'] })];
    expect(offersRuntime({ nodes: full, size: 1 }, 'python')).toBe(true);
    expect(offersRuntime({ nodes: out, size: 1 }, 'python')).toBe(false);
  });
});
