import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { concurrencyLimits } from '../admission/concurrency-limits.js';
import { startTestRedis, type TestRedis } from '../redis/test-redis.js';
import type { NotReserved, Reservation, ReservationRequest } from './placement-ledger.js';
import { RedisPlacementLedger } from './redis-placement-ledger.js';

const NODE = { memoryBytes: 1_000, slots: 10 };
const WAIT = { timeout: 30_000, interval: 20 };
const PATIENT_MS = 30_000;
/** What was warned of: events by name. */
const warned: string[] = [];
const log = pino(
  { level: 'warn' },
  { write: (line: string) => void warned.push((JSON.parse(line) as { msg: string }).msg) },
);

const limited = (functionId: string, reserved: number | null, maximum: number | null = null) =>
  concurrencyLimits(functionId, 'project', reserved, maximum);

/** Numbers from 0 to below 1, the same each time. */
function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

describe('RedisPlacementLedger', () => {
  let redis: TestRedis;
  const ledgers: RedisPlacementLedger[] = [];
  let invocation = 0;
  beforeAll(async () => {
    redis = await startTestRedis();
  });
  beforeEach(async () => {
    await redis.client.flushall();
    warned.length = 0;
  });
  afterEach(async () => {
    for (const ledger of ledgers.splice(0)) await ledger.close();
  });
  afterAll(() => redis?.close());

  const begin = async (options: { onRoom?: () => void; leaseMs?: number; answerMs?: number } = {}) => {
    const ledger = new RedisPlacementLedger({ url: redis.url, onRoom: () => {}, log, ...options });
    ledgers.push(ledger);
    for (const node of ['n1', 'n2']) ledger.setCapacity(node, NODE);
    await expect.poll(() => ledger.state, WAIT).toBe('joined');
    return ledger;
  };
  const reserve = async (ledger: RedisPlacementLedger, request: Partial<ReservationRequest> = {}) => {
    invocation += 1;
    const defaults = { candidates: ['n1', 'n2'], amount: { memoryBytes: 10, milliSlots: 100 }, limits: undefined };
    return ledger.reserve({ ...defaults, unreservedMax: 1_000, ...request, invocationId: `i${invocation}` });
  };
  const reserved = async (...given: Parameters<typeof reserve>): Promise<Reservation> => {
    const answer = await reserve(...given);
    if (typeof answer === 'string') throw new Error(`not reserved: ${answer}`);
    return answer;
  };
  /** Every total of Redis, as the sum of what is held. */
  const expectTotals = async (held: readonly Reservation[]): Promise<void> => {
    const sums = new Map<string, number>();
    const add = (field: string, by: number) => sums.set(field, (sums.get(field) ?? 0) + by);
    for (const { nodeId, amount, limits } of held) {
      add(`m:${nodeId}`, amount.memoryBytes);
      add(`s:${nodeId}`, amount.milliSlots);
      add(`c:${nodeId}`, 1);
      if (limits !== undefined) add(`f:${limits.functionId}`, 1);
      if (limits !== undefined && !limits.reserved) add(`p:${limits.projectId}`, 1);
    }
    const expected = Object.fromEntries([...sums].map(([field, sum]) => [field, String(sum)]));
    const found = async () => ({
      ...(await redis.client.hgetall('lambda:nodes')),
      ...(await redis.client.hgetall('lambda:counts')),
    });
    await expect.poll(found, WAIT).toEqual(expected);
  };

  it('never lets two replicas together exceed a node, a function or an account, and leaves each its reserved part', async () => {
    const random = randomOf(20_261_125);
    const both = [await begin({ answerMs: PATIENT_MS }), await begin({ answerMs: PATIENT_MS })];
    const functions = [limited('capped', null, 3), limited('kept', 4), limited('free', null), limited('other', null)];
    const unreservedMax = 8;
    const running = new Map<string, number>();
    const most = new Map<string, number>();
    const count = (keys: readonly string[], by: number) => {
      for (const key of keys) {
        running.set(key, (running.get(key) ?? 0) + by);
        most.set(key, Math.max(most.get(key) ?? 0, running.get(key) ?? 0));
      }
    };
    const keysOf = ({ nodeId, limits }: Reservation) => [
      nodeId,
      limits?.functionId ?? '',
      ...(limits?.reserved ? [] : ['unreserved']),
    ];
    const answers = new Map<string, number>();
    const work = async (ledger: RedisPlacementLedger) => {
      const held: Reservation[] = [];
      for (let step = 0; step < 200; step += 1) {
        if (held.length > 0 && random() < 0.45) {
          const [given] = held.splice(Math.floor(random() * held.length), 1);
          if (given === undefined) continue;
          count(keysOf(given), -1);
          ledger.release(given);
          continue;
        }
        const limits = functions[Math.floor(random() * functions.length)];
        const candidates = random() < 0.5 ? ['n1', 'n2'] : ['n2', 'n1'];
        const answer = await reserve(ledger, {
          candidates,
          limits,
          unreservedMax,
          amount: { memoryBytes: 200, milliSlots: 1 },
        });
        if (typeof answer === 'string') {
          answers.set(answer, (answers.get(answer) ?? 0) + 1);
          if (limits?.functionId === 'kept') expect(answer).not.toBe('account_limit');
        } else {
          held.push(answer);
          count(keysOf(answer), 1);
        }
      }
      return held;
    };
    // Four callers of each replica at once.
    const left = (await Promise.all([...both, ...both, ...both, ...both].map(work))).flat();
    expect(most.get('capped')).toBe(3);
    expect(most.get('kept')).toBe(4);
    expect(most.get('unreserved')).toBeLessThanOrEqual(8);
    for (const node of ['n1', 'n2']) expect(most.get(node)).toBeLessThanOrEqual(Math.floor(1_000 / 200));
    expect([...answers.keys()].sort()).toEqual(['account_limit', 'function_limit', 'no_room']);
    expect(both.map(({ decidedAlone }) => decidedAlone)).toEqual([0, 0]);
    await expectTotals(left);
    expect(warned).toEqual([]);
  });

  it('shows each replica what the other has reserved, and says when it has given that back', async () => {
    let room = 0;
    const one = await begin();
    const two = await begin({ onRoom: () => (room += 1) });
    const held = await reserved(one, { candidates: ['n1'], amount: 'whole-node' });
    await expect.poll(() => two.free('n1'), WAIT).toEqual({ memoryBytes: 0, slots: 0 });
    expect(await reserve(two, { candidates: ['n1'] })).toBe('no_room');
    one.release(held);
    await expect.poll(() => two.free('n1'), WAIT).toEqual(NODE);
    expect(room).toBeGreaterThan(0);
  });

  it('says that there may be room after it had none, though it never saw what had taken it', async () => {
    let told = 0;
    const one = await begin({ answerMs: PATIENT_MS });
    const two = await begin({ answerMs: PATIENT_MS, onRoom: () => (told += 1) });
    const taken = await reserved(one, { candidates: ['n1'], amount: 'whole-node' });
    expect(await reserve(two, { candidates: ['n1'] })).toBe('no_room');
    one.release(taken);
    await expect.poll(() => told, WAIT).toBeGreaterThan(0);
    await reserved(two, { candidates: ['n1'] });
  });

  it('takes back what a killed replica had within its lease, once, and never what a live one has', async () => {
    const leaseMs = 3_000;
    const live = await begin({ leaseMs, answerMs: PATIENT_MS });
    const other = await begin({ leaseMs, answerMs: PATIENT_MS });
    const limits = limited('f', null, 2);
    const kept = await reserved(live, { candidates: ['n1'], limits });
    const program = `
      import { RedisPlacementLedger } from '${new URL('../../dist/scheduling/redis-placement-ledger.js', import.meta.url)}';
      import { Secret } from '@lambda-fleet/common/secret';
      const log = { info() {}, warn() {} };
      const ledger = new RedisPlacementLedger({ url: new Secret('${redis.url.reveal()}'), onRoom() {}, log, leaseMs: ${leaseMs} });
      ledger.setCapacity('n2', ${JSON.stringify(NODE)});
      while (ledger.state !== 'joined') await new Promise((resolve) => setTimeout(resolve, 10));
      const limits = ${JSON.stringify(limits)};
      await ledger.reserve({ invocationId: 'x', candidates: ['n2'], amount: 'whole-node', limits, unreservedMax: 1000 });
      console.log('held');
      setInterval(() => undefined, 1000);`;
    const cwd = fileURLToPath(new URL('../../', import.meta.url));
    const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
      cwd,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    try {
      const [said] = await once(child.stdout, 'data');
      expect(String(said)).toContain('held');
      expect(await reserve(other, { limits })).toBe('function_limit');
      expect(await reserve(other, { candidates: ['n2'] })).toBe('no_room');
    } finally {
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
    await expect.poll(async () => typeof (await reserve(other, { candidates: ['n2'] })), WAIT).toBe('object');
    const again = await reserved(other, { candidates: ['n2'], limits });
    // By Redis' clock, three leases later.
    await redis.client.set('later', '1', 'PX', 3 * leaseMs);
    await expect.poll(() => redis.client.exists('later'), WAIT).toBe(0);
    expect(await reserve(other, { limits })).toBe('function_limit');
    expect(await redis.client.hget('lambda:counts', 'f:f')).toBe('2');
    live.release(kept);
    other.release(again);
  });

  it('has exactly what the replicas hold after it was flushed a hundred times under load', async () => {
    const random = randomOf(7);
    const both = [await begin(), await begin()];
    const limits = limited('f', null, 100);
    let over = false;
    const work = async (ledger: RedisPlacementLedger) => {
      const held: Reservation[] = [];
      while (!over || held.length > 3) {
        if (held.length > (over ? 3 : 12 * random())) {
          const [given] = held.splice(Math.floor(random() * held.length), 1);
          if (given !== undefined) ledger.release(given);
        } else {
          const answer: Reservation | NotReserved = await reserve(ledger, { limits });
          // Far below every limit, with and without Redis.
          expect(answer).not.toBe('function_limit');
          if (typeof answer !== 'string') held.push(answer);
        }
        if (random() < 0.1) await sleep(1);
      }
      return held;
    };
    const working = [...both, ...both].map(work);
    for (let times = 0; times < 100; times += 1) {
      await redis.client.flushall();
      await sleep(20 * random());
    }
    over = true;
    const held = (await Promise.all(working)).flat();
    await expectTotals(held);
    // Both have published again and again.
    const epochs = await redis.client.mget(await redis.client.keys('lambda:lease:*'));
    expect(epochs.map(Number).every((epoch) => epoch > 10)).toBe(true);
    // It was right at once, and not because a difference was found later.
    expect(warned).not.toContain('redis_ledger_differs');
    await expect.poll(() => both.map(({ state }) => state), WAIT).toEqual(['joined', 'joined']);
  });

  it('throttles nothing because Redis was flushed: it publishes what it holds and asks again', async () => {
    const one = await begin({ answerMs: PATIENT_MS });
    const two = await begin({ answerMs: PATIENT_MS });
    const limits = limited('f', null, 10);
    // More than its share, if it had to decide alone.
    const held = await Promise.all(Array.from({ length: 8 }, () => reserved(one, { limits })));
    await redis.client.flushall();
    held.push(...(await Promise.all([reserved(one, { limits }), reserved(one, { limits })])));
    expect(await reserve(two, { limits })).toBe('function_limit');
    expect([one.decidedAlone, two.decidedAlone]).toEqual([0, 0]);
    await expectTotals(held);
  });

  it('decides alone while Redis is frozen, and afterwards Redis has exactly what is held', async () => {
    const both = [await begin(), await begin()];
    const held: Reservation[] = [await reserved(both[0] as RedisPlacementLedger)];
    await redis.freeze(async () => {
      // Each of these is answered while Redis answers nothing. What was sent to it before is carried out when it thaws.
      for (const ledger of both) {
        const asked = Array.from({ length: 20 }, () =>
          reserve(ledger, { amount: { memoryBytes: 100, milliSlots: 1 } }),
        );
        const answers = await Promise.all(asked);
        const given = answers.filter((answer) => typeof answer !== 'string');
        // All that both nodes have as this replica knows them, and no more.
        expect(given.length).toBe(ledger === both[0] ? 19 : 20);
        expect(ledger.decidedAlone).toBeGreaterThanOrEqual(20);
        held.push(...given);
      }
      for (const given of held.splice(5, 10)) both[0]?.release(given);
      await sleep(3_000);
    });
    await expectTotals(held);
    expect(warned).not.toContain('redis_ledger_differs');
    await expect.poll(() => both.map(({ state }) => state), WAIT).toEqual(['joined', 'joined']);
  });

  it('gives its share of each limit while Redis is stopped, and publishes what it holds when it is back', async () => {
    const both = [await begin(), await begin()];
    // Each has seen the other.
    const seen = await reserved(both[0] as RedisPlacementLedger, { candidates: ['n1'], amount: 'whole-node' });
    await expect.poll(() => both[1]?.free('n1').slots, WAIT).toBe(0);
    both[0]?.release(seen);
    await expect.poll(() => both[1]?.free('n1').slots, WAIT).toBe(NODE.slots);
    const held: Reservation[] = [];
    await redis.restart(async () => {
      await expect.poll(() => both.map(({ state }) => state), WAIT).toEqual(['apart', 'apart']);
      for (const ledger of both) {
        const limits = limited('f', null, 3);
        for (let times = 0; times < 2; times += 1) held.push(await reserved(ledger, { limits }));
        expect(await reserve(ledger, { limits })).toBe('function_limit');
        held.push(await reserved(ledger, { limits: limited('g', null), unreservedMax: 5 }));
        expect(await reserve(ledger, { limits: limited('g', null), unreservedMax: 5 })).toBe('account_limit');
        expect(await reserve(ledger, { limits: limited('off', 0) })).toBe('function_limit');
      }
    });
    await expectTotals(held);
  });

  it('finds a part that was damaged from outside, and totals that were', async () => {
    const ledger = await begin();
    const held = [await reserved(ledger, { limits: limited('f', 5) }), await reserved(ledger)];
    await expectTotals(held);
    await redis.client.del(...(await redis.client.keys('lambda:nodes:*')));
    await expect.poll(() => redis.client.keys('lambda:nodes:*'), WAIT).toHaveLength(1);
    expect(warned).toContain('redis_ledger_differs');
    // Of these it knows nothing: what sums them anew each minute does so at its next look.
    await redis.client.del('lambda:nodes', 'lambda:counts', 'lambda:summed');
    await expectTotals(held);
  });

  it('gives back what it holds when it stops, and still answers', async () => {
    const ledger = await begin();
    await reserved(ledger, { limits: limited('f', 5) });
    await ledger.close();
    expect(await redis.client.exists('lambda:nodes', 'lambda:counts')).toBe(0);
    expect(await redis.client.smembers('lambda:replicas')).toEqual([]);
    expect(typeof (await reserve(ledger))).toBe('object');
  });
});
