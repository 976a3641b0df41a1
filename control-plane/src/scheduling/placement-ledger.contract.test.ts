import { describe, expect, it } from 'vitest';
import { MemoryPlacementLedger } from './memory-placement-ledger.js';
import type { PlacementLedger } from './placement-ledger.js';

const amount = (memoryBytes: number, milliSlots = 1_000) => ({ memoryBytes, milliSlots });

const implementations: [string, () => PlacementLedger][] = [['memory', () => new MemoryPlacementLedger()]];

describe.each(implementations)('PlacementLedger contract: %s', (_name, create) => {
  it('takes the first candidate that fits', async () => {
    const ledger = create();
    ledger.setCapacity('small', { memoryBytes: 100, slots: 9 });
    ledger.setCapacity('large', { memoryBytes: 1000, slots: 9 });
    expect(await ledger.reserve('i1', ['small', 'large'], amount(500))).toMatchObject({ nodeId: 'large' });
    expect(await ledger.reserve('i2', ['small', 'large'], amount(100))).toMatchObject({ nodeId: 'small' });
    expect(await ledger.reserve('i3', ['small', 'large'], amount(600))).toBeUndefined();
  });

  it('never reserves more memory or slots than the node has', async () => {
    const ledger = create();
    ledger.setCapacity('n', { memoryBytes: 250, slots: 3 });
    expect(await ledger.reserve('i1', ['n'], amount(100))).toBeDefined();
    expect(await ledger.reserve('i2', ['n'], amount(100))).toBeDefined();
    expect(await ledger.reserve('i3', ['n'], amount(100))).toBeUndefined();
    expect(await ledger.reserve('i4', ['n'], amount(10))).toBeDefined();
    expect(await ledger.reserve('i5', ['n'], amount(10))).toBeUndefined();
    expect(ledger.free('n')).toEqual({ memoryBytes: 40, slots: 0 });
  });

  it('lets invocations that share a sandbox share its slot', async () => {
    const ledger = create();
    ledger.setCapacity('n', { memoryBytes: 1_000, slots: 1 });
    for (const id of ['i1', 'i2', 'i3', 'i4']) expect(await ledger.reserve(id, ['n'], amount(100, 250))).toBeDefined();
    expect(ledger.free('n')).toEqual({ memoryBytes: 600, slots: 0 });
    expect(await ledger.reserve('i5', ['n'], amount(100, 250))).toBeUndefined();
  });

  it('gives a whole node only while nothing is reserved there, and then nothing beside it', async () => {
    const ledger = create();
    ledger.setCapacity('n', { memoryBytes: 1_000, slots: 4 });
    const small = await ledger.reserve('i1', ['n'], amount(1, 1));
    expect(await ledger.reserve('i2', ['n'], 'whole-node')).toBeUndefined();
    if (small !== undefined) ledger.release(small);
    const whole = await ledger.reserve('i2', ['n'], 'whole-node');
    expect(whole).toMatchObject({ amount: { memoryBytes: 1_000, milliSlots: 4_000 } });
    expect(await ledger.reserve('i3', ['n'], amount(1, 1))).toBeUndefined();
    if (whole !== undefined) ledger.release(whole);
    expect(ledger.free('n')).toEqual({ memoryBytes: 1_000, slots: 4 });
  });

  it('returns exactly what was reserved, once', async () => {
    const ledger = create();
    ledger.setCapacity('n', { memoryBytes: 100, slots: 1 });
    const reservation = await ledger.reserve('i1', ['n'], amount(60));
    if (reservation === undefined) throw new Error('not reserved');
    ledger.release(reservation);
    ledger.release(reservation);
    expect(ledger.free('n')).toEqual({ memoryBytes: 100, slots: 1 });
  });

  it('treats a node that shrank below its reservations as full, not negative', async () => {
    const ledger = create();
    ledger.setCapacity('n', { memoryBytes: 100, slots: 2 });
    await ledger.reserve('i1', ['n'], amount(80));
    ledger.setCapacity('n', { memoryBytes: 50, slots: 1 });
    expect(ledger.free('n')).toEqual({ memoryBytes: 0, slots: 0 });
    expect(await ledger.reserve('i2', ['n'], amount(1))).toBeUndefined();
  });

  it('gives an unknown or removed node no room and forgets its reservations', async () => {
    const ledger = create();
    expect(await ledger.reserve('i1', ['ghost'], amount(1))).toBeUndefined();
    ledger.setCapacity('n', { memoryBytes: 100, slots: 1 });
    const old = await ledger.reserve('i2', ['n'], amount(60));
    if (old === undefined) throw new Error('not reserved');
    ledger.removeNode('n');
    ledger.setCapacity('n', { memoryBytes: 100, slots: 1 });
    expect(await ledger.reserve('i3', ['n'], amount(60))).toBeDefined();
    ledger.release(old);
    expect(ledger.free('n')).toEqual({ memoryBytes: 40, slots: 0 });
  });
});
