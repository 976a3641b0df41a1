import { expect, it } from 'vitest';
import { shareOf } from './share-of.js';

/** What lanes hold that want everything, one after the other, while nothing ends. */
function taken(lanes: number, places: number): number[] {
  const held: number[] = [];
  for (let lane = 0; lane < lanes; lane += 1) {
    const free = places - held.reduce((sum, one) => sum + one, 0);
    held.push(free > 0 ? shareOf(0, free) : 0);
  }
  return held;
}

it('leaves places to lanes that come later', () => {
  expect(taken(1, 64)).toEqual([48]);
  expect(taken(3, 64)).toEqual([48, 12, 3]);
});

it('gives the next place to a lane that has none, and none to those that have many', () => {
  expect(shareOf(0, 1)).toBe(1);
  for (const held of [1, 3, 12, 48]) expect(shareOf(held, 1)).toBe(0);
});

it('lets a lane have no more than three times what stays free', () => {
  for (let held = 1; held < 64; held += 1) {
    const more = shareOf(held, 64 - held);
    expect(more).toBeGreaterThanOrEqual(0);
    if (more > 0) expect(held + more).toBeLessThanOrEqual(3 * (64 - held - more));
  }
});
