import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { startTestPostgres, type TestPostgres } from '../db/test-postgres.js';
import { bodiesOf } from '../executions/execution-bodies.js';
import { ExecutionTable } from '../executions/execution-table.js';
import { FunctionTable } from '../functions/function-table.js';
import { VersionCache } from '../functions/version-cache.js';
import type { InvocationRequest, InvocationResult, Invoke } from '../invocations/invocation.js';
import { AddressPolicy } from '../webhooks/address-policy.js';
import { WebhookSender } from '../webhooks/webhook-sender.js';
import type { ConnectedAgent } from './adrift-invocations.js';
import { type AsyncSystem, createAsyncSystem } from './async-system.js';
import { DeadLetterSweep } from './dead-letter-sweep.js';
import { LaneSweep } from './lane-sweep.js';

const log = pino({ level: 'silent' });

type Answer = Partial<InvocationResult>;

/** One life of a control plane, with nodes that are played by the test. */
interface Life {
  readonly system: AsyncSystem;
  readonly invoked: InvocationRequest[];
  readonly acknowledged: string[];
}

interface Row {
  readonly status: string;
  readonly epoch: number;
  readonly attempts: number;
  readonly losses: number;
  readonly reason: string | null;
  readonly nodeId: string | null;
}

interface Ended {
  readonly outcome: string;
  readonly attempts: number;
  readonly epoch: number;
  readonly error: { readonly errorType: string } | null;
  readonly output: string | null;
}

describe('async invocations', () => {
  let postgres: TestPostgres;
  const agents = new Map<string, ConnectedAgent>();
  const lives: Life[] = [];
  const deployed = new Map<string, { id: string; asyncMaxAgeMs: number }>();

  beforeAll(async () => {
    postgres = await startTestPostgres();
    await postgres.database.run(
      'artifact',
      (sql) => sql`insert into artifacts (project_id, sha256, bytes, complete) values ('default', 'a', 1, true)`,
    );
  });
  afterAll(async () => {
    await postgres.close();
  });
  afterEach(async () => {
    for (const life of lives.splice(0)) await life.system.close();
    agents.clear();
    for (const table of ['async_invocations', 'lanes', 'dead_letters', 'executions', 'functions'] as const)
      await postgres.database.run('empty', (sql) => sql`delete from ${sql(table)}`);
  });

  const begin = (
    answer: (request: InvocationRequest) => Answer | Promise<Answer>,
    { concurrencyMax = 8, queuedMax = 1_000, queuedBytesMax = 1_000_000 } = {},
  ): Life => {
    const { database } = postgres;
    const invoked: InvocationRequest[] = [];
    const acknowledged: string[] = [];
    const invoke: Invoke = async (version, request) => {
      const refused = { outcome: 'not_started', attested: false } as const;
      const mayRun = (await request.beforeSend?.({ nodeId: 'n1', bootId: 'boot-1' })) ?? true;
      if (mayRun) invoked.push(request);
      const given = mayRun ? await answer(request) : refused;
      return {
        ...{ id: request.id, version, body: Buffer.alloc(0), receipt: {}, nodeId: 'n1', attested: true },
        acknowledge: () => acknowledged.push(request.id),
        outcome: 'success',
        ...given,
      };
    };
    const functions = new FunctionTable(database);
    const system = createAsyncSystem({
      ...{
        database,
        functions,
        executions: new ExecutionTable(database),
        versions: new VersionCache(functions),
        invoke,
        log,
        concurrencyMax,
      },
      webhooks: new WebhookSender(new AddressPolicy(['127.0.0.0/8'])),
      agent: (nodeId) => agents.get(nodeId),
      onRequeued: () => Promise.resolve(),
      ready: () => true,
      limits: { queuedMax, queuedBytesMax },
      jobs: {
        run: () => expect.unreachable('there are no jobs'),
        limits: { queuedMax, queuedBytesMax: 1_000_000 },
        concurrencyMax,
        onEnded: () => undefined,
      },
    });
    const life = { system, invoked, acknowledged };
    lives.push(life);
    return life;
  };
  /** As kill -9 leaves it, a lease later: nobody writes anything any more. */
  const abandon = async (life: Life): Promise<void> => {
    lives.splice(lives.indexOf(life), 1);
    await life.system.close();
  };
  const never = (): Promise<Answer> => new Promise(() => undefined);
  const ok = (text = '1'): Answer => ({ body: Buffer.from(text) });
  const failing: Answer = {
    outcome: 'function_error',
    error: { errorType: 'Error', errorMessage: 'no', trace: [], file: '', line: 0, column: 0 },
  };

  const deploy = async (name: string, settings: { retries?: number; delays?: number[]; maxAgeMs?: number } = {}) => {
    const { retries = 2, delays = [1], maxAgeMs = 60_000 } = settings;
    const [id, versionId] = [uuidv7(), uuidv7()];
    await postgres.database.run(
      'deploy',
      (sql) => sql`
        with f as (
          insert into functions (
            id, project_id, name, route, http_auth, latest_version_id, async_retries, async_retry_delays_ms, async_max_age_ms
          ) values (
            ${id}, 'default', ${name}, ${name}, 'key', ${versionId}, ${retries}, ${sql.json(delays)}, ${maxAgeMs}
          )
        )
        insert into versions (
          id, project_id, function_id, number, runtime, handler, memory_mb, cpus, timeout_ms, init_timeout_ms, keep_alive_ms,
          environment, artifact_sha256, artifact_bytes
        ) values (
          ${versionId}, 'default', ${id}, 1, 'nodejs', 'index.handler', 128, 1, 1000, 1000, 1000, '{}', 'a', 1
        )`,
    );
    deployed.set(name, { id, asyncMaxAgeMs: maxAgeMs });
    return { id, versionId };
  };
  const accept = async (life: Life, name: string, payload = '{}'): Promise<string> => {
    const { id, asyncMaxAgeMs } = deployed.get(name) ?? expect.unreachable('no such function');
    const accepted = await life.system.invocations.accept(
      { projectId: 'default', functionId: id, functionName: name, asyncMaxAgeMs } as never,
      { payload: Buffer.from(payload), traceId: '' },
    );
    return accepted.id;
  };
  const row = async (id: string): Promise<Row | undefined> =>
    (await postgres.database.run('row', (sql) => sql<Row[]>`select * from async_invocations where id = ${id}`))[0];
  const ended = async (id: string): Promise<Ended> => {
    await expect.poll(() => row(id), { timeout: 10_000, interval: 20 }).toBeUndefined();
    const [found] = await postgres.database.run(
      'end',
      (sql) => sql<Ended[]>`select * from executions where id = ${id}`,
    );
    return found ?? expect.unreachable(`${id} is neither queued nor ended`);
  };
  const dead = (): Promise<readonly { id: string; condition: string }[]> =>
    lives[0]?.system.deadLetters.list('default', {}, undefined, 100) ?? expect.unreachable('no life');
  const lanesAreExact = async (): Promise<void> => {
    const wrong = await postgres.database.run(
      'lanes',
      (sql) => sql`
        select l.* from lanes l left join lateral (
          select count(*) as queued, coalesce(sum(octet_length(payload)), 0) as bytes, min(not_before) as due
          from async_invocations a where a.lane_id = l.id and a.status = 'queued'
        ) q on true
        where l.queued <> q.queued or l.queued_bytes <> q.bytes or (l.next_due is null) <> (q.queued = 0)
          or l.next_due > q.due`,
    );
    expect([...wrong]).toEqual([]);
  };
  /** As if this node had never been heard of again for so long. */
  const age = (ms: number) =>
    postgres.database.run(
      'let time pass',
      (sql) => sql`update async_invocations set started_at = started_at - ${ms} * interval '1 millisecond'`,
    );
  const agent = (bootId: string, had: readonly string[] = [], ageMs = 0): ConnectedAgent => ({
    bootId,
    ageMs,
    hadAtConnect: ({ invocationId }) => had.includes(invocationId),
    cancel: () => undefined,
  });

  it('runs a thousand, each once, never more at once than it may', async () => {
    await deploy('f');
    let [now, most] = [0, 0];
    const life = begin(async () => {
      now += 1;
      most = Math.max(most, now);
      await sleep(1);
      now -= 1;
      return ok();
    });
    const ids = await Promise.all(Array.from({ length: 1_000 }, () => accept(life, 'f')));
    for (const id of ids)
      expect(await ended(id)).toMatchObject({ outcome: 'success', attempts: 1, epoch: 1, output: '1' });
    expect(life.invoked).toHaveLength(1_000);
    expect(new Set(life.invoked.map(({ id }) => id))).toEqual(new Set(ids));
    expect(most).toBeLessThanOrEqual(8);
    expect(life.acknowledged).toHaveLength(1_000);
    await lanesAreExact();
  });

  it('takes no more of a function than it may run at once, so that none of them is put off', async () => {
    const { id } = await deploy('f');
    await deploy('other');
    await postgres.database.run(
      'limit',
      (sql) => sql`update functions set reserved_concurrency = 2, maximum_concurrency = 5 where id = ${id}`,
    );
    let [now, most] = [0, 0];
    const life = begin(async ({ payload }) => {
      if (String(payload) !== '{}') return ok();
      now += 1;
      most = Math.max(most, now);
      await sleep(1);
      now -= 1;
      return now >= 2 ? { outcome: 'throttled', reason: 'as many as may' } : ok();
    });
    const ids = await Promise.all(Array.from({ length: 40 }, () => accept(life, 'f')));
    const others = await Promise.all(Array.from({ length: 10 }, () => accept(life, 'other', '1')));
    for (const one of [...ids, ...others]) expect(await ended(one)).toMatchObject({ outcome: 'success', epoch: 1 });
    expect(most).toBe(2);
    await lanesAreExact();
  });

  it('puts off together what is queued of a function that is switched off, and gives it up when it is too old', async () => {
    const { id } = await deploy('f', { maxAgeMs: 4_000 });
    await postgres.database.run(
      'switch off',
      (sql) => sql`update functions set reserved_concurrency = 0 where id = ${id}`,
    );
    const life = begin(() => ({ outcome: 'throttled', reason: 'off' }));
    const ids = await Promise.all(Array.from({ length: 10 }, () => accept(life, 'f')));
    const statusOf = async () => (await Promise.all(ids.map(row))).map((found) => found?.reason);
    await expect.poll(statusOf).toEqual(ids.map(() => 'off'));
    for (const one of ids) expect(await ended(one)).toMatchObject({ attempts: 0 });
    expect(await dead()).toHaveLength(10);
    await lanesAreExact();
  });

  it('a flood of one function, of which nothing ends, does not keep another one waiting', async () => {
    await deploy('flood');
    await deploy('quiet');
    const life = begin(({ payload }) => (String(payload) === '"flood"' ? never() : ok()));
    await Promise.all(Array.from({ length: 50 }, () => accept(life, 'flood', '"flood"')));
    await expect.poll(() => life.invoked.length).toBe(6);
    expect(await ended(await accept(life, 'quiet'))).toMatchObject({ outcome: 'success' });
    await lanesAreExact();
  });

  it('serves functions in turn, and each in its order', async () => {
    await deploy('a');
    await deploy('b');
    const first = begin(never, { concurrencyMax: 1 });
    // Held by the first, so that the rest waits.
    await accept(first, 'a', '0');
    const queued = [];
    for (let i = 1; i <= 4; i += 1) queued.push(await accept(first, 'a', `${i}`));
    for (let i = 1; i <= 2; i += 1) queued.push(await accept(first, 'b', `${i}`));
    await expect.poll(() => first.invoked.length).toBe(1);
    await abandon(first);
    const second = begin(() => ok(), { concurrencyMax: 1 });
    for (const id of queued) await ended(id);
    const order = second.invoked.map(({ payload }) => String(payload));
    // The one that was held has cost its lane a turn already.
    expect(order.filter((_, at) => at < 4).join()).toMatch(/^1,1,2,2$/);
    expect(order.slice(4)).toEqual(['3', '4']);
  });

  describe('a function that had nothing to do', () => {
    /** @param due seconds from now; null: nothing is queued */
    const lane = (virtualTime: number, due: number | null, { jobs = false, id = uuidv7() } = {}) => ({
      ...{ id, project_id: 'default', queued: due === null ? 0 : 1, queued_bytes: due === null ? 0 : 1 },
      ...{ next_due: due === null ? null : new Date(Date.now() + due * 1_000), virtual_time: virtualTime, jobs },
    });
    const servedOnce = async (id: string, ...lanes: readonly ReturnType<typeof lane>[]): Promise<number> => {
      await postgres.database.run('lanes', (sql) => sql`insert into lanes ${sql(lanes)}`);
      const life = begin(() => ok());
      await ended(await accept(life, 'f'));
      const [served] = await postgres.database.run(
        'lane',
        (sql) => sql<{ virtualTime: number }[]>`select virtual_time from lanes where id = ${id}`,
      );
      return (served?.virtualTime ?? 0) - 1;
    };

    it('begins where other functions are, not where jobs stand still or what is tried later was', async () => {
      const { id } = await deploy('f');
      const others = [lane(5, -1, { jobs: true }), lane(7, 60), lane(100, -1), lane(200, -1)];
      expect(await servedOnce(id, ...others)).toBe(100);
    });

    it('keeps its own place when it has been served more than they', async () => {
      const { id } = await deploy('f');
      expect(await servedOnce(id, lane(150, null, { id }), lane(100, -1))).toBe(150);
    });

    it('begins where it would have been when something of it waits for later', async () => {
      const { id } = await deploy('f');
      expect(await servedOnce(id, lane(3, 60, { id }), lane(100, -1))).toBe(100);
    });

    it('does not begin before those that were served for long, when nobody waits', async () => {
      const { id } = await deploy('f');
      expect(await servedOnce(id, lane(900, null, { jobs: true }), lane(300, null), lane(500, null))).toBe(500);
    });

    it('has no lane once it is swept, unless it was served more than those that wait', async () => {
      const rows = [lane(5, null), lane(100, -1), lane(100, null), lane(101, null), lane(1, 60)];
      await postgres.database.run('lanes', (sql) => sql`insert into lanes ${sql(rows)}`);
      const left = async () => {
        const found = await postgres.database.run('lanes', (sql) => sql<{ id: string }[]>`select id from lanes`);
        return found.map(({ id }) => rows.findIndex((row) => row.id === id)).toSorted();
      };
      const sweep = new LaneSweep(postgres.database, log);
      try {
        expect(await sweep.run()).toBe(2);
        expect(await left()).toEqual([1, 3, 4]);
        await postgres.database.run('drain', (sql) => sql`update lanes set queued = 0, next_due = null`);
        expect(await sweep.run()).toBe(3);
      } finally {
        sweep.close();
      }
    });
  });

  it('tries a failing function again under the same id and with a new epoch, and then gives it up', async () => {
    await deploy('f', { retries: 2, delays: [10, 20] });
    const life = begin(() => failing);
    const id = await accept(life, 'f');
    expect(await ended(id)).toMatchObject({ outcome: 'function_error', attempts: 3, epoch: 3 });
    expect(life.invoked.map((request) => [request.id, request.attempt?.epoch])).toEqual([
      [id, 1],
      [id, 2],
      [id, 3],
    ]);
    expect(await dead()).toMatchObject([{ id, condition: 'RetriesExhausted' }]);
    await lanesAreExact();
  });

  it('keeps whole events and results with the executions, of functions that want it', async () => {
    const bytes = Buffer.from([0xff, 0x00]);
    const life = begin(() => ({ body: bytes }));
    await deploy('f');
    const { id: functionId } = await deploy('silent');
    await postgres.database.run(
      'off',
      (sql) => sql`update functions set keep_payloads = false where id = ${functionId}`,
    );
    const long = JSON.stringify('é'.repeat(50_000));
    const [kept, silent] = [await accept(life, 'f', long), await accept(life, 'silent', long)];
    expect(await ended(kept)).toMatchObject({ outcome: 'success', input: null, output: null });
    expect(await ended(silent)).toMatchObject({ outcome: 'success', input: null, output: null });
    const bodies = await bodiesOf(postgres.database, 'default', kept);
    expect(bodies).toEqual({ input: Buffer.from(long), output: bytes, exact: true });
    const none = await bodiesOf(postgres.database, 'default', silent);
    expect(none).toEqual({ input: undefined, output: undefined, exact: true });
  });

  it('counts no attempt for what the platform did, and gives up when it is too old', async () => {
    await deploy('f', { retries: 0, maxAgeMs: 1_500 });
    const life = begin(() => ({ outcome: 'throttled', reason: 'as many as may' }));
    const id = await accept(life, 'f');
    await expect.poll(() => row(id)).toMatchObject({ status: 'queued', attempts: 0, reason: 'as many as may' });
    expect(await ended(id)).toMatchObject({ attempts: 0, error: { errorType: 'Invocation.EventAgeExceeded' } });
    expect(await dead()).toMatchObject([{ id, condition: 'EventAgeExceeded' }]);
  });

  it('does not begin what became too old while it was queued', async () => {
    await deploy('f', { maxAgeMs: 0 });
    const life = begin(() => ok());
    const id = await accept(life, 'f');
    expect(await ended(id)).toMatchObject({ outcome: 'not_started', attempts: 0 });
    expect(await dead()).toMatchObject([{ id, condition: 'EventAgeExceeded' }]);
    expect(life.invoked).toEqual([]);
  });

  it('says so at the door when a lane is full, and takes others', async () => {
    await deploy('f');
    await deploy('g');
    const life = begin(never, { concurrencyMax: 1, queuedMax: 3 });
    await accept(life, 'f');
    await expect.poll(() => life.invoked.length).toBe(1);
    for (let i = 0; i < 3; i += 1) await accept(life, 'f');
    await expect(accept(life, 'f')).rejects.toMatchObject({ code: 'throttled' });
    await accept(life, 'g');
    await lanesAreExact();
  });

  it('runs again, as no attempt and no loss, what was taken and not sent when its process died', async () => {
    await deploy('f');
    const first = begin(never, { concurrencyMax: 1 });
    await accept(first, 'f');
    await expect.poll(() => first.invoked.length).toBe(1);
    const id = await accept(first, 'f');
    await abandon(first);
    // As a process leaves it that dies between taking it and sending it.
    await postgres.database.run(
      'take',
      (sql) => sql`
        with taken as (
          update async_invocations set status = 'running', epoch = 1, lease_until = now() - interval '1 second'
          where id = ${id} returning lane_id
        )
        update lanes set queued = 0, queued_bytes = 0, next_due = null from taken where lanes.id = taken.lane_id`,
    );
    const second = begin(() => ok());
    expect(await ended(id)).toMatchObject({ outcome: 'success', attempts: 1, epoch: 2 });
    expect(second.invoked.map((request) => [request.id, request.attempt?.epoch])).toEqual([[id, 2]]);
    await lanesAreExact();
  });

  it('an attempt that ran when its control plane died ends by the late word of its node, once', async () => {
    await deploy('f');
    const first = begin(never);
    const id = await accept(first, 'f');
    await expect.poll(() => row(id)).toMatchObject({ status: 'running', nodeId: 'n1', epoch: 1 });
    await abandon(first);
    const second = begin(() => ok('"again"'));
    agents.set('n1', agent('boot-1', [id]));
    await age(5_000);
    await sleep(2_500);
    expect(await row(id)).toMatchObject({ status: 'running', epoch: 1 });
    const acknowledged: string[] = [];
    const source = (nodeId: string) => ({
      nodeId,
      acknowledge: (refs: readonly { invocationId: string }[]) =>
        acknowledged.push(...refs.map(({ invocationId }) => invocationId)),
    });
    const late = (epoch: number, body: string) => ({
      ...{ invocationId: id, epoch, outcome: 1, body: Buffer.from(body), bodyStreamed: false, bodyBytes: body.length },
      ...{
        versionId: uuidv7(),
        versionNumber: 1,
        memoryMb: 128,
        error: undefined,
        http: undefined,
        receipt: undefined,
      },
    });
    second.system.lateResults.receive(source('thief'), late(1, '"forged"') as never);
    second.system.lateResults.receive(source('n1'), late(2, '"early"') as never);
    await expect.poll(() => acknowledged.length).toBe(2);
    expect(await row(id)).toMatchObject({ status: 'running' });
    second.system.lateResults.receive(source('n1'), late(1, '"late"') as never);
    second.system.lateResults.receive(source('n1'), late(1, '"twice"') as never);
    expect(await ended(id)).toMatchObject({ outcome: 'success', epoch: 1, attempts: 1, output: '"late"' });
    await expect.poll(() => acknowledged.length).toBe(4);
    expect(second.invoked).toEqual([]);
  });

  it('takes large events a few at a time, and finds all of them again', async () => {
    await deploy('f');
    const large = JSON.stringify('x'.repeat(1_000_000));
    const first = begin(never, { concurrencyMax: 64, queuedBytesMax: 1e9 });
    const ids = await Promise.all(Array.from({ length: 40 }, () => accept(first, 'f', large)));
    await expect.poll(() => first.invoked.length, { timeout: 20_000 }).toBe(40);
    await abandon(first);
    agents.set('n1', agent('boot-1'));
    await age(5_000);
    const second = begin(() => ok(), { concurrencyMax: 64, queuedBytesMax: 1e9 });
    for (const id of ids) expect(await ended(id)).toMatchObject({ outcome: 'success', epoch: 2 });
    expect(second.invoked).toHaveLength(40);
    await lanesAreExact();
  });

  it('runs again, as no attempt and no loss, what did not reach its node', async () => {
    await deploy('f');
    const first = begin(never);
    const id = await accept(first, 'f');
    await expect.poll(() => row(id)).toMatchObject({ status: 'running', nodeId: 'n1' });
    await abandon(first);
    agents.set('n1', agent('boot-1'));
    await age(5_000);
    begin(() => ok());
    expect(await ended(id)).toMatchObject({ outcome: 'success', attempts: 1, epoch: 2 });
  });

  it('waits for a node that is away until its budgets have passed, and then counts a loss', async () => {
    await deploy('f');
    const first = begin(never);
    const id = await accept(first, 'f');
    await expect.poll(() => row(id)).toMatchObject({ status: 'running', nodeId: 'n1' });
    await abandon(first);
    const second = begin(() => ok());
    await sleep(2_500);
    expect(await row(id)).toMatchObject({ status: 'running', epoch: 1 });
    await age(32_500);
    expect(await ended(id)).toMatchObject({ outcome: 'success', attempts: 1, epoch: 2 });
    expect(second.invoked).toHaveLength(1);
  });

  it('an invocation that takes its node down three times is given up', async () => {
    await deploy('poison');
    let boot = 1;
    const life = begin(() => {
      // The link breaks, and the agent comes back as another one.
      boot += 1;
      agents.set('n1', agent(`boot-${boot}`));
      return { outcome: 'outcome_unknown', attested: false };
    });
    const id = await accept(life, 'poison');
    await expect.poll(() => row(id), { timeout: 20_000, interval: 50 }).toBeUndefined();
    expect(await ended(id)).toMatchObject({ outcome: 'outcome_unknown', epoch: 3, attempts: 0 });
    expect(await dead()).toMatchObject([{ id, condition: 'NodesLost' }]);
    expect(life.invoked.map(({ attempt }) => attempt?.alone)).toEqual([false, false, true]);
  });

  it('an attempt that was taken over has no say any more', async () => {
    await deploy('f');
    const releases: ((answer: Answer) => void)[] = [];
    const life = begin(() => new Promise((resolve) => releases.push(resolve)));
    const id = await accept(life, 'f');
    await expect.poll(() => releases.length).toBe(1);
    // Its lease ran out while the process stood still, and somebody else found it and its node anew.
    await postgres.database.run(
      'take over',
      (sql) => sql`update async_invocations set epoch = 2, owner = gen_random_uuid() where id = ${id}`,
    );
    releases[0]?.(ok('"too late"'));
    await expect.poll(() => life.acknowledged).toEqual([id]);
    expect(await row(id)).toMatchObject({ status: 'running', epoch: 2 });
  });

  it('cancels what is queued, and what runs', async () => {
    await deploy('f');
    const life = begin(
      ({ signal }) =>
        new Promise((resolve) => {
          signal?.addEventListener('abort', () => resolve({ ...failing, outcome: 'timeout' }));
        }),
      { concurrencyMax: 1 },
    );
    const running = await accept(life, 'f');
    await expect.poll(() => life.invoked.length).toBe(1);
    const queued = await accept(life, 'f');
    expect(await life.system.invocations.cancel('default', queued)).toBe('cancelled');
    expect(await ended(queued)).toMatchObject({ outcome: 'not_started', error: { errorType: 'Invocation.Cancelled' } });
    await lanesAreExact();
    await expect(life.system.invocations.cancel('other', running)).rejects.toMatchObject({ code: 'conflict' });
    expect(await life.system.invocations.cancel('default', running)).toBe('requested');
    expect(await ended(running)).toMatchObject({ outcome: 'timeout', error: { errorType: 'Invocation.Cancelled' } });
    expect(await dead()).toEqual([]);
    await expect(life.system.invocations.cancel('default', running)).rejects.toMatchObject({ code: 'conflict' });
  });

  it('gives up what is queued for a function that was deleted, also when another one has its name', async () => {
    const { id: old } = await deploy('f');
    const first = begin(never, { concurrencyMax: 1 });
    await accept(first, 'f');
    await expect.poll(() => first.invoked.length).toBe(1);
    const id = await accept(first, 'f');
    await abandon(first);
    await postgres.database.run('delete', (sql) => sql`delete from functions where id = ${old}`);
    await deploy('f');
    const second = begin(() => ok());
    expect(await ended(id)).toMatchObject({ error: { errorType: 'Invocation.FunctionGone' } });
    expect(second.invoked).toEqual([]);
  });

  it('queues dead letters again, as new invocations, and throws others away', async () => {
    await deploy('f', { retries: 0 });
    await deploy('g', { retries: 0 });
    let broken = true;
    const life = begin(() => (broken ? failing : ok()));
    const ids = [await accept(life, 'f', '"one"'), await accept(life, 'f', '"two"'), await accept(life, 'g')];
    for (const id of ids) await ended(id);
    broken = false;
    const { deadLetters } = life.system;
    const [one = ''] = ids;
    expect(await deadLetters.get('default', one)).toMatchObject({ functionName: 'f', payload: Buffer.from('"one"') });
    await expect(deadLetters.get('other', one)).rejects.toMatchObject({ code: 'dead_letter_not_found' });
    expect(await deadLetters.redrive('other', {})).toEqual(new Map());
    const redriven = await deadLetters.redrive('default', { functionName: 'f' });
    expect([...redriven.keys()].toSorted()).toEqual(ids.slice(0, 2).toSorted());
    for (const id of redriven.values()) expect(await ended(id)).toMatchObject({ outcome: 'success', attempts: 1 });
    expect(await dead()).toMatchObject([{ id: ids[2] }]);
    expect(await deadLetters.purge('default', { functionName: 'f' })).toBe(0);
    expect(await deadLetters.purge('default', {})).toBe(1);
    expect(await dead()).toEqual([]);
    await lanesAreExact();
  });

  it('keeps dead letters for a fortnight', async () => {
    await deploy('f', { retries: 0 });
    const life = begin(() => failing);
    const ids = await Promise.all(Array.from({ length: 3 }, () => accept(life, 'f')));
    for (const id of ids) await ended(id);
    const age = (days: number, id = '') =>
      postgres.database.run(
        'age',
        (sql) => sql`update dead_letters set died_at = now() - ${days} * interval '1 day' where id = ${id}`,
      );
    await age(14.01, ids[0]);
    await age(13.99, ids[1]);
    const sweep = new DeadLetterSweep(postgres.database, log);
    try {
      expect(await sweep.run()).toBe(1);
    } finally {
      sweep.close();
    }
    expect((await dead()).map(({ id }) => id).toSorted()).toEqual(ids.slice(1).toSorted());
  });

  it('sends what became of an invocation to the destinations of its function', async () => {
    await deploy('f', { retries: 0 });
    await deploy('after');
    const life = begin(({ payload }) => (String(payload) === '"bad"' ? failing : ok('{"n":1}')));
    const { settings } = life.system;
    await settings.change('default', 'f', { onSuccess: { function: 'after' }, onFailure: { function: 'after' } });
    const good = await accept(life, 'f', '"good"');
    await ended(good);
    await expect.poll(() => life.invoked.length).toBe(2);
    expect(JSON.parse(String(life.invoked[1]?.payload))).toMatchObject({
      version: '1.0',
      requestContext: { requestId: good, condition: 'Success', approximateInvokeCount: 1 },
      requestPayload: 'good',
      responseContext: { statusCode: 200, executedVersion: '1' },
      responsePayload: { n: 1 },
    });
    const bad = await accept(life, 'f', '"bad"');
    await ended(bad);
    await expect.poll(() => life.invoked.length).toBe(4);
    expect(JSON.parse(String(life.invoked[3]?.payload))).toMatchObject({
      requestContext: { requestId: bad, condition: 'RetriesExhausted' },
      responseContext: { functionError: 'Unhandled' },
      responsePayload: { errorType: 'Error', errorMessage: 'no' },
    });
    expect(await dead()).toMatchObject([{ id: bad }]);
  });

  it('ends a circle of destinations', async () => {
    await deploy('f');
    const life = begin(() => ok());
    await life.system.settings.change('default', 'f', { onSuccess: { function: 'f' } });
    await accept(life, 'f');
    await expect.poll(() => life.invoked.length, { timeout: 10_000 }).toBe(17);
    await sleep(300);
    expect(life.invoked).toHaveLength(17);
  });

  it.each<[object, string]>([
    [{ retries: 6 }, 'retries must be a whole number from 0 to 5'],
    [{ retryDelaysMs: [] }, 'retryDelaysMs must hold at least one delay'],
    [{ onFailure: { function: 'nobody' } }, 'onFailure.function names no function'],
    [{ onFailure: { url: 'ftp://example.com' } }, 'onFailure.url must be an http'],
    [{ onFailure: { url: 'http://10.0.0.1/x' } }, 'onFailure.url cannot be sent to: 10.0.0.1'],
    [{ onFailure: { url: 'http://[::ffff:10.0.0.1]/' } }, 'not a public address'],
    [{ onFailure: { url: 'http://169.254.169.254/latest' } }, 'not a public address'],
    [{ onSuccess: { url: 'https://user:pw@example.com' } }, 'must not hold a user name'],
    [{ elsewhere: 1 }, 'There is no field "elsewhere"'],
  ])('refuses the settings %j', async (changes, message) => {
    await deploy('f');
    const life = begin(never);
    await expect(life.system.settings.change('default', 'f', changes)).rejects.toThrow(message);
    expect(await life.system.settings.get('default', 'f')).toMatchObject({
      retries: 2,
      onSuccess: null,
      onFailure: null,
    });
  });
});
