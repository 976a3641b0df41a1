import type { VersionSpec, WarmFloor } from '@lambda-fleet/proto';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { FloorWishes } from './floor-wishes.js';

const floor = (versionId: string, sandboxes: number): WarmFloor => ({
  spec: { versionId } as VersionSpec,
  isolation: 'runc',
  sandboxes,
});

function wishes() {
  const kept = new Map<string, number>();
  const created = new FloorWishes((floors) => {
    for (const { spec, sandboxes } of floors) kept.set(spec?.versionId ?? '', sandboxes);
  });
  return { created, kept };
}

describe('FloorWishes', () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  it('keeps the highest that any replica asks for', () => {
    const { created, kept } = wishes();
    const [one, two] = [{}, {}];
    created.begin(one);
    created.begin(two);
    created.set(one, [floor('v', 2)]);
    created.set(two, [floor('v', 3), floor('w', 1)]);
    expect([...kept]).toEqual([
      ['v', 3],
      ['w', 1],
    ]);
    created.set(two, [floor('v', 0), floor('w', 0)]);
    expect([...kept]).toEqual([
      ['v', 2],
      ['w', 0],
    ]);
  });

  it('counts the wish of a replica whose link broke for a minute, and not after', () => {
    const { created, kept } = wishes();
    const one = {};
    created.begin(one);
    created.set(one, [floor('v', 2)]);
    created.lost(one);
    vi.advanceTimersByTime(59_000);
    expect(kept.get('v')).toBe(2);
    vi.advanceTimersByTime(2_000);
    expect(kept.get('v')).toBe(0);
  });

  it('holds what a replica says in its new session, whatever it said before', () => {
    const { created, kept } = wishes();
    const one = {};
    created.begin(one);
    created.set(one, [floor('v', 2), floor('w', 2)]);
    created.lost(one);
    created.begin(one);
    created.set(one, [floor('v', 1)]);
    vi.advanceTimersByTime(120_000);
    expect([...kept]).toEqual([
      ['v', 1],
      ['w', 0],
    ]);
  });

  it('ends what a replica does not ask for any more in its new session, as soon as it says that this is nothing', () => {
    const { created, kept } = wishes();
    const one = {};
    created.begin(one);
    created.set(one, [floor('v', 3)]);
    created.lost(one);
    created.begin(one);
    expect(kept.get('v')).toBe(3);
    created.set(one, []);
    expect(kept.get('v')).toBe(0);
  });

  it('tells again what holds, which is not yet what a replica that begins anew will say', () => {
    const told: string[] = [];
    const created = new FloorWishes((floors) => {
      for (const { spec, sandboxes } of floors) told.push(`${spec?.versionId} ${sandboxes}`);
    });
    created.tellAgain();
    const one = {};
    created.begin(one);
    created.set(one, [floor('v', 2), floor('w', 1)]);
    created.set(one, [floor('w', 0)]);
    created.begin(one);
    told.length = 0;
    created.tellAgain();
    expect(told).toEqual(['v 2']);
    created.set(one, []);
    expect(told).toEqual(['v 2', 'v 0']);
  });

  it('tells a version again that was forgotten and is asked for anew', () => {
    const told: number[] = [];
    const created = new FloorWishes((floors) => told.push(...floors.map(({ sandboxes }) => sandboxes)));
    const one = {};
    created.begin(one);
    created.set(one, [floor('v', 2)]);
    created.forget(['v']);
    created.set(one, [floor('v', 2)]);
    expect(told).toEqual([2, 2]);
  });
});
