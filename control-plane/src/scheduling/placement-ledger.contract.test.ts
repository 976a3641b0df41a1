import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { concurrencyLimits } from '../admission/concurrency-limits.js';
import { startTestRedis, type TestRedis } from '../redis/test-redis.js';
import { MemoryPlacementLedger } from './memory-placement-ledger.js';
import type { PlacementLedger, Reservation, ReservationRequest } from './placement-ledger.js';
import { RedisPlacementLedger } from './redis-placement-ledger.js';

const amount = (memoryBytes: number, milliSlots = 1_000) => ({ memoryBytes, milliSlots });

const limited = (functionId: string, reserved: number | null, maximum: number | null = null) =>
  concurrencyLimits(functionId, 'project', reserved, maximum);

let redis: TestRedis;
const shared: RedisPlacementLedger[] = [];
beforeAll(async () => {
  redis = await startTestRedis();
});
afterEach(async () => {
  for (const ledger of shared.splice(0)) {
    // Redis has decided throughout, and holds nothing of it any more.
    expect(ledger.decidedAlone).toBe(0);
    await ledger.close();
    expect(await redis.client.exists('lambda:nodes', 'lambda:counts')).toBe(0);
  }
});
afterAll(() => redis?.close());

async function joined(): Promise<RedisPlacementLedger> {
  const log = pino({ level: 'silent' });
  // A busy machine is no reason to decide alone here.
  const ledger = new RedisPlacementLedger({ url: redis.url, onRoom: () => {}, log, answerMs: 30_000 });
  shared.push(ledger);
  await expect.poll(() => ledger.state).toBe('joined');
  return ledger;
}

const implementations: [string, () => PlacementLedger | Promise<PlacementLedger>][] = [
  ['memory', () => new MemoryPlacementLedger()],
  ['redis', joined],
];

/** As callers see it: refusals are names. */
async function reserve(ledger: PlacementLedger, invocationId: string, request: Partial<ReservationRequest>) {
  const defaults = { candidates: ['n'], amount: amount(1), limits: undefined, unreservedMax: 1_000 };
  return ledger.reserve({ ...defaults, ...request, invocationId });
}

async function reserved(...given: Parameters<typeof reserve>): Promise<Reservation> {
  const answer = await reserve(...given);
  if (typeof answer === 'string') throw new Error(`not reserved: ${answer}`);
  return answer;
}

describe.each(implementations)('PlacementLedger contract: %s', (_name, create) => {
  it('takes the first candidate that fits', async () => {
    const ledger = await create();
    ledger.setCapacity('small', { memoryBytes: 100, slots: 9 });
    ledger.setCapacity('large', { memoryBytes: 1000, slots: 9 });
    const candidates = ['small', 'large'];
    expect(await reserve(ledger, 'i1', { candidates, amount: amount(500) })).toMatchObject({ nodeId: 'large' });
    expect(await reserve(ledger, 'i2', { candidates, amount: amount(100) })).toMatchObject({ nodeId: 'small' });
    expect(await reserve(ledger, 'i3', { candidates, amount: amount(600) })).toBe('no_room');
    expect(await reserve(ledger, 'i4', { candidates: [] })).toBe('no_room');
  });

  it('never reserves more memory or slots than the node has', async () => {
    const ledger = await create();
    ledger.setCapacity('n', { memoryBytes: 250, slots: 3 });
    await reserved(ledger, 'i1', { amount: amount(100) });
    await reserved(ledger, 'i2', { amount: amount(100) });
    expect(await reserve(ledger, 'i3', { amount: amount(100) })).toBe('no_room');
    await reserved(ledger, 'i4', { amount: amount(10) });
    expect(await reserve(ledger, 'i5', { amount: amount(10) })).toBe('no_room');
    expect(ledger.free('n')).toEqual({ memoryBytes: 40, slots: 0 });
  });

  it('lets invocations that share a sandbox share its slot', async () => {
    const ledger = await create();
    ledger.setCapacity('n', { memoryBytes: 1_000, slots: 1 });
    for (const id of ['i1', 'i2', 'i3', 'i4']) await reserved(ledger, id, { amount: amount(100, 250) });
    expect(ledger.free('n')).toEqual({ memoryBytes: 600, slots: 0 });
    expect(await reserve(ledger, 'i5', { amount: amount(100, 250) })).toBe('no_room');
  });

  it('gives a whole node only while nothing is reserved there, and then nothing beside it', async () => {
    const ledger = await create();
    ledger.setCapacity('n', { memoryBytes: 1_000, slots: 4 });
    const small = await reserved(ledger, 'i1', { amount: amount(1, 1) });
    expect(await reserve(ledger, 'i2', { amount: 'whole-node' })).toBe('no_room');
    ledger.release(small);
    const whole = await reserved(ledger, 'i2', { amount: 'whole-node' });
    expect(whole).toMatchObject({ amount: { memoryBytes: 1_000, milliSlots: 4_000 } });
    expect(await reserve(ledger, 'i3', { amount: amount(1, 1) })).toBe('no_room');
    ledger.release(whole);
    expect(ledger.free('n')).toEqual({ memoryBytes: 1_000, slots: 4 });
  });

  it('returns exactly what was reserved, once', async () => {
    const ledger = await create();
    ledger.setCapacity('n', { memoryBytes: 100, slots: 1 });
    const limits = limited('f', 1);
    const first = await reserved(ledger, 'i1', { amount: amount(60), limits });
    ledger.release(first);
    ledger.release(first);
    expect(ledger.free('n')).toEqual({ memoryBytes: 100, slots: 1 });
    await reserved(ledger, 'i2', { amount: amount(100), limits });
    expect(await reserve(ledger, 'i3', { limits })).toBe('function_limit');
  });

  it('treats a node that shrank below its reservations as full, not negative', async () => {
    const ledger = await create();
    ledger.setCapacity('n', { memoryBytes: 100, slots: 2 });
    await reserved(ledger, 'i1', { amount: amount(80) });
    ledger.setCapacity('n', { memoryBytes: 50, slots: 1 });
    expect(ledger.free('n')).toEqual({ memoryBytes: 0, slots: 0 });
    expect(await reserve(ledger, 'i2', {})).toBe('no_room');
  });

  it('gives an unknown or removed node no room and forgets its reservations', async () => {
    const ledger = await create();
    const limits = limited('f', null, 1);
    expect(await reserve(ledger, 'i1', { candidates: ['ghost'] })).toBe('no_room');
    ledger.setCapacity('n', { memoryBytes: 100, slots: 1 });
    const old = await reserved(ledger, 'i2', { amount: amount(60), limits });
    ledger.removeNode('n');
    expect(await reserve(ledger, 'i3', {})).toBe('no_room');
    ledger.setCapacity('n', { memoryBytes: 100, slots: 1 });
    await reserved(ledger, 'i4', { amount: amount(60), limits });
    ledger.release(old);
    expect(ledger.free('n')).toEqual({ memoryBytes: 40, slots: 0 });
    expect(await reserve(ledger, 'i5', { limits })).toBe('function_limit');
  });

  it('tells its listener of each node of which less or more is free', async () => {
    const ledger = await create();
    const told: [string, number][] = [];
    ledger.onChange((nodeId) => told.push([nodeId, ledger.free(nodeId).memoryBytes]));
    ledger.setCapacity('n', { memoryBytes: 100, slots: 1 });
    const held = await reserved(ledger, 'i1', { amount: amount(60) });
    ledger.release(held);
    ledger.removeNode('n');
    const changes = told.filter(([nodeId, free], at) => nodeId !== 'n' || free !== told[at - 1]?.[1]);
    expect(changes).toEqual([
      ['n', 100],
      ['n', 40],
      ['n', 100],
      ['n', 0],
    ]);
  });

  it('gives a function no more places at once than its limit, and says so before it says that there is no room', async () => {
    const ledger = await create();
    ledger.setCapacity('n', { memoryBytes: 100, slots: 2 });
    const limits = limited('f', null, 1);
    const only = await reserved(ledger, 'i1', { limits });
    expect(await reserve(ledger, 'i2', { limits })).toBe('function_limit');
    expect(await reserve(ledger, 'i3', { limits, amount: amount(1_000) })).toBe('function_limit');
    await reserved(ledger, 'i4', { limits: limited('other', null) });
    ledger.release(only);
    await reserved(ledger, 'i5', { limits });
    expect(await reserve(ledger, 'i6', { limits: limited('off', 0) })).toBe('function_limit');
  });

  it('keeps what a function has reserved for it when all others have taken what they share', async () => {
    const ledger = await create();
    ledger.setCapacity('n', { memoryBytes: 100, slots: 100 });
    const shared = { unreservedMax: 2 };
    const first = await reserved(ledger, 'i1', { limits: limited('f', null), ...shared });
    await reserved(ledger, 'i2', { limits: limited('g', null, 5), ...shared });
    expect(await reserve(ledger, 'i3', { limits: limited('h', null), ...shared })).toBe('account_limit');
    for (const id of ['i4', 'i5', 'i6']) await reserved(ledger, id, { limits: limited('kept', 3), ...shared });
    expect(await reserve(ledger, 'i7', { limits: limited('kept', 3), ...shared })).toBe('function_limit');
    const elsewhere = concurrencyLimits('x', 'other project', null, null);
    await reserved(ledger, 'i8', { limits: elsewhere, ...shared });
    ledger.release(first);
    await reserved(ledger, 'i9', { limits: limited('h', null), ...shared });
  });

  it('takes a place back from where it was counted, though the function has reserved some meanwhile', async () => {
    const ledger = await create();
    ledger.setCapacity('n', { memoryBytes: 100, slots: 100 });
    const before = await reserved(ledger, 'i1', { limits: limited('f', null), unreservedMax: 1 });
    await reserved(ledger, 'i2', { limits: limited('f', 2), unreservedMax: 1 });
    expect(await reserve(ledger, 'i3', { limits: limited('f', 2), unreservedMax: 1 })).toBe('function_limit');
    ledger.release(before);
    await reserved(ledger, 'i4', { limits: limited('g', null), unreservedMax: 1 });
    await reserved(ledger, 'i5', { limits: limited('f', 2), unreservedMax: 1 });
  });

  it('counts nobody for what has no limits', async () => {
    const ledger = await create();
    ledger.setCapacity('n', { memoryBytes: 100, slots: 100 });
    await reserved(ledger, 'i1', { unreservedMax: 0 });
    await reserved(ledger, 'i2', { limits: limited('f', null), unreservedMax: 1 });
  });
});
