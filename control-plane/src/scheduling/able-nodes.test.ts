import { expect, it } from 'vitest';
import { AbleNodes } from './able-nodes.js';
import { hashOf } from './hash.js';

const FUNCTIONS = Array.from({ length: 2_000 }, (_, n) => hashOf(`function ${n}`));
const point = (position: number) => hashOf(`node ${position}`);
const range = (count: number) => Array.from({ length: count }, (_, n) => n);

function nodes(positions: readonly number[]): AbleNodes {
  const able = new AbleNodes();
  for (const position of positions) able.add(position, point(position));
  return able;
}

const order = (able: AbleNodes, hash: number, count: number) => able.inOrder(hash, count, () => true);

it.each([1, 2, 3, 16, 17, 300])('meets each of %i nodes once, in the order that is the function’s own', (count) => {
  const able = nodes(range(count));
  for (const hash of FUNCTIONS.slice(0, 50)) {
    const all = order(able, hash, count);
    expect(all.toSorted((a, b) => a - b)).toEqual(range(count));
    expect(order(able, hash, 3)).toEqual(all.slice(0, 3));
  }
});

it('orders the same nodes in the same way, however they came and whoever was there before', () => {
  const first = nodes(range(100));
  const second = nodes(range(300).toReversed());
  for (const position of range(300).slice(100)) second.delete(position, point(position));
  expect(second.size).toBe(100);
  for (const hash of FUNCTIONS.slice(0, 200)) expect(order(second, hash, 20)).toEqual(order(first, hash, 20));
});

it('lets few functions notice that a node came or went', () => {
  const able = nodes(range(100));
  const before = FUNCTIONS.map((hash) => order(able, hash, 1)[0]);
  able.add(100, point(100));
  const joined = FUNCTIONS.map((hash) => order(able, hash, 1)[0]);
  const moved = FUNCTIONS.filter((_, n) => joined[n] !== before[n] && joined[n] !== 100);
  // The stretch that is looked at becomes shorter by a hundredth.
  expect(moved.length).toBeLessThan(FUNCTIONS.length / 50);
  expect(joined.filter((position) => position === 100).length).toBeLessThan(FUNCTIONS.length / 50);
  able.delete(100, point(100));
  expect(FUNCTIONS.map((hash) => order(able, hash, 1)[0])).toEqual(before);
});

it('is met first by about equally many functions', () => {
  const able = nodes(range(20));
  const firsts = new Map<number, number>();
  for (const hash of FUNCTIONS) {
    const [first = -1] = order(able, hash, 1);
    firsts.set(first, (firsts.get(first) ?? 0) + 1);
  }
  expect(firsts.size).toBe(20);
  for (const count of firsts.values()) {
    expect(count).toBeGreaterThan(30);
    expect(count).toBeLessThan(250);
  }
});
