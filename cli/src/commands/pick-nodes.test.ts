import { describe, expect, it } from 'vitest';
import type { NodeResource } from '../api/nodes.js';
import { pickNodes } from './pick-nodes.js';

const node = (id: string, labels: Record<string, string> = {}) => ({ id, labels }) as unknown as NodeResource;
const NODES = [node('web-1', { zone: 'a' }), node('web-10', { zone: 'b' }), node('db', { zone: 'a', disk: 'ssd' })];

const pick = (names: string[], labels: [string, string][] = []): string[] =>
  pickNodes(NODES, names, labels).map(({ id }) => id);

describe('pickNodes', () => {
  it.each([
    [['db'], ['db']],
    [['d'], ['db']],
    [['web-10'], ['web-10']],
    // It is how another one begins too, and is one itself.
    [['web-1'], ['web-1']],
    [
      ['db', 'd', 'web-1'],
      ['db', 'web-1'],
    ],
  ])('%j means %j', (names, ids) => {
    expect(pick(names)).toEqual(ids);
  });

  it.each([
    [['web'], 2],
    [['nothing'], 3],
    [[''], 3],
    [[], 2],
  ])('%j is refused with exit status %i', (names, exitCode) => {
    expect(() => pick(names)).toThrow(expect.objectContaining({ exitCode }));
  });

  it('by labels means all nodes that have all of them', () => {
    expect(pick([], [['zone', 'a']])).toEqual(['web-1', 'db']);
    expect(
      pick(
        [],
        [
          ['zone', 'a'],
          ['disk', 'ssd'],
        ],
      ),
    ).toEqual(['db']);
    expect(() => pick([], [['toString', '']])).toThrow(expect.objectContaining({ exitCode: 3 }));
    expect(() => pick(['db'], [['zone', 'a']])).toThrow(expect.objectContaining({ exitCode: 2 }));
  });
});
