import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { PostgresArtifactStore } from '../artifacts/postgres-artifact-store.js';
import type { ConnectedAgent } from '../async/adrift-invocations.js';
import { type AsyncSystem, createAsyncSystem } from '../async/async-system.js';
import { startTestPostgres, type TestPostgres } from '../db/test-postgres.js';
import { ExecutionTable } from '../executions/execution-table.js';
import { FunctionTable } from '../functions/function-table.js';
import { VersionCache } from '../functions/version-cache.js';
import type { InvocationRequest, InvocationResult, Invoke } from '../invocations/invocation.js';
import { AddressPolicy } from '../webhooks/address-policy.js';
import { WebhookSender } from '../webhooks/webhook-sender.js';
import type { JobDetail } from './job.js';
import { JobSweep } from './job-sweep.js';
import { JobTable } from './job-table.js';
import { JobWaiters } from './job-waiters.js';
import { Jobs } from './jobs.js';
import { createRunJob } from './run-job.js';

const log = pino({ level: 'silent' });

type Answer = Partial<InvocationResult>;

/** One life of a control plane, with nodes that are played by the test. */
interface Life {
  readonly jobs: Jobs;
  readonly invoked: InvocationRequest[];
  readonly system: AsyncSystem;
  readonly ended: [string, string][];
}

describe('jobs', () => {
  let postgres: TestPostgres;
  const agents = new Map<string, ConnectedAgent>();
  const lives: Life[] = [];
  beforeAll(async () => {
    postgres = await startTestPostgres();
    await postgres.database.run('add projects', (sql) => sql`insert into projects (project_id) values ('a'), ('b')`);
  });
  afterAll(async () => {
    await postgres.close();
  });
  afterEach(async () => {
    for (const life of lives.splice(0)) await life.system.close();
    agents.clear();
    expect(await postgres.database.run('dead', (sql) => sql`select id from dead_letters`)).toHaveLength(0);
    for (const table of ['async_invocations', 'lanes', 'executions', 'jobs'] as const)
      await postgres.database.run('empty', (sql) => sql`delete from ${sql(table)}`);
  });

  const begin = (answer: (request: InvocationRequest) => Answer | Promise<Answer>, concurrencyMax = 6): Life => {
    const { database } = postgres;
    const invoked: InvocationRequest[] = [];
    const ended: [string, string][] = [];
    const invoke: Invoke = async (version, request) => {
      const refused = { outcome: 'not_started', attested: false } as const;
      const mayRun = (await request.beforeSend?.({ nodeId: 'n1', bootId: 'boot-1' })) ?? true;
      if (mayRun) invoked.push(request);
      const given = mayRun ? await answer(request) : refused;
      const base = { id: request.id, version, body: Buffer.alloc(0), receipt: {}, nodeId: 'n1', attested: true };
      return { ...base, outcome: 'success', ...given };
    };
    const functions = new FunctionTable(database);
    const artifacts = new PostgresArtifactStore(database);
    const table = new JobTable(database);
    const waiters = new JobWaiters();
    const system = createAsyncSystem({
      ...{ database, functions, executions: new ExecutionTable(database), invoke, log },
      versions: new VersionCache(functions),
      concurrencyMax: 64,
      webhooks: new WebhookSender(new AddressPolicy()),
      agent: (nodeId) => agents.get(nodeId),
      onRequeued: () => Promise.resolve(),
      ready: () => true,
      limits: { queuedMax: 1_000, queuedBytesMax: 1e9 },
      jobs: {
        run: createRunJob({
          ...{ table, artifacts, invoke, forgetVersions: () => undefined, logsStored: () => Promise.resolve() },
        }),
        limits: { queuedMax: 1_000, queuedBytesMax: 1e9 },
        concurrencyMax,
        onEnded: (id, status) => {
          ended.push([id, status]);
          waiters.finished(id);
        },
      },
    });
    const jobs = new Jobs({ table, intake: system.jobIntake, queue: system.invocations, waiters });
    const life = { jobs, invoked, system, ended };
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
  const submit = async (life: Life, body: object = {}, projectId = 'a'): Promise<string> =>
    (await life.jobs.submit(projectId, { code: 'return 1', ...body })).job.id;
  const get = (life: Life, id: string, projectId = 'a'): Promise<JobDetail> =>
    life.jobs.get(projectId, id, 0, new AbortController().signal);
  const finished = async (life: Life, id: string, projectId = 'a'): Promise<JobDetail> => {
    const job = await life.jobs.get(projectId, id, 30_000, new AbortController().signal);
    expect(job.finishedAt).not.toBeNull();
    return job;
  };
  const running = async (life: Life, id: string): Promise<void> => {
    await expect.poll(async () => (await get(life, id)).status).toBe('running');
  };
  const agent = (bootId: string, had: readonly string[] = [], cancelled: unknown[] = []): ConnectedAgent => ({
    bootId,
    ageMs: 0,
    hadAtConnect: ({ invocationId }) => had.includes(invocationId),
    cancel: (ref) => cancelled.push(ref),
  });
  /** As if attempts had begun so much earlier. */
  const age = (ms: number) =>
    postgres.database.run(
      'let time pass',
      (sql) => sql`update async_invocations set started_at = started_at - ${ms} * interval '1 millisecond'`,
    );
  /** The word of a node about an attempt that nobody waits for any more. */
  const report = (life: Life, id: string, { nodeId = 'n1', epoch = 1, body = '"late"' } = {}): Promise<void> =>
    new Promise((resolve) => {
      const end = {
        ...{ invocationId: id, epoch, outcome: 1, body: Buffer.from(body), bodyStreamed: false, memoryMb: 128 },
        ...{ bodyBytes: body.length, versionId: id, versionNumber: 1, error: undefined, http: undefined },
        receipt: undefined,
      };
      life.system.lateResults.receive({ nodeId, acknowledge: () => resolve() }, end as never);
    });

  it('runs three hundred jobs, each once, never more at once than it may', async () => {
    let now = 0;
    let most = 0;
    const life = begin(async () => {
      now += 1;
      most = Math.max(most, now);
      await sleep(1);
      now -= 1;
      return ok();
    }, 8);
    const ids = await Promise.all(Array.from({ length: 300 }, () => submit(life)));
    for (const id of ids) expect(await finished(life, id)).toMatchObject({ status: 'succeeded', attempts: 1 });
    expect(life.invoked).toHaveLength(300);
    expect(most).toBeGreaterThan(1);
    expect(most).toBeLessThanOrEqual(8);
  });

  it('serves projects in turn, and the jobs of one in their order', async () => {
    const first = begin(never, 1);
    // Held by the first, so that the rest waits.
    await submit(first);
    await expect.poll(() => first.invoked.length).toBe(1);
    const ids: string[] = [];
    for (const project of ['a', 'a', 'a', 'b', 'b']) ids.push(await submit(first, { args: project }, project));
    await abandon(first);
    const life = begin(() => ok(), 1);
    for (const [n, id] of ids.entries()) await finished(life, id, n < 3 ? 'a' : 'b');
    const order = life.invoked.map(({ payload }) => JSON.parse(payload.toString()));
    // The one that was held has cost its lane a turn already.
    expect(order.slice(0, 4).toSorted().join('')).toBe('aabb');
    expect(order[4]).toBe('a');
    const of = (project: string) => life.invoked.filter(({ payload }) => payload.toString() === `"${project}"`);
    expect([...of('a'), ...of('b')].map(({ id }) => id)).toEqual(ids);
  });

  it('a project with many jobs in progress, of which nothing ends, does not keep another one waiting', async () => {
    const life = begin(({ payload }) => (payload.toString() === '"flood"' ? never() : ok()), 4);
    for (let i = 0; i < 20; i += 1) await submit(life, { args: 'flood' });
    await expect.poll(() => life.invoked.length).toBe(3);
    const other = await submit(life, {}, 'b');
    expect(await finished(life, other, 'b')).toMatchObject({ status: 'succeeded' });
    expect(life.invoked).toHaveLength(4);
  });

  it('after a crash queued jobs run, once each', async () => {
    const first = begin(never, 3);
    const ids: string[] = [];
    for (let i = 0; i < 4; i += 1) ids.push(await submit(first));
    await expect.poll(() => first.invoked.length).toBe(2);
    await abandon(first);
    const second = begin(() => ok());
    for (const id of ids.slice(2))
      expect(await finished(second, id)).toMatchObject({ status: 'succeeded', attempts: 1 });
    // Those that were sent may be running still.
    for (const id of ids.slice(0, 2)) expect(await get(second, id)).toMatchObject({ status: 'running', attempts: 1 });
    expect(second.invoked).toHaveLength(2);
  });

  it('a job that ran during a crash gets the result that its node reports afterwards, once, and does not run again', async () => {
    const first = begin(never);
    const id = await submit(first, { retries: 3 });
    await running(first, id);
    await abandon(first);
    const second = begin(() => ok('"again"'));
    const waiting = finished(second, id);
    agents.set('n1', agent('boot-1', [id]));
    await age(5_000);
    second.system.nodeConnected();
    await report(second, id, { nodeId: 'thief', body: '"forged"' });
    await report(second, id, { epoch: 2, body: '"early"' });
    expect(await get(second, id)).toMatchObject({ status: 'running', attempts: 1 });
    await report(second, id);
    await report(second, id, { body: '"twice"' });
    const job = await waiting;
    expect(job).toMatchObject({ status: 'succeeded', result: '"late"', attempts: 1, nodeId: 'n1', executionIds: [id] });
    expect(second.ended).toEqual([[id, 'succeeded']]);
    expect(second.invoked).toEqual([]);
  });

  it('a job whose node was lost runs again, with no retries left too, and that costs none', async () => {
    const first = begin(never);
    const id = await submit(first);
    await running(first, id);
    await abandon(first);
    const second = begin(() => ok('2'));
    agents.set('n1', agent('boot-2'));
    second.system.nodeConnected();
    expect(await finished(second, id)).toMatchObject({ status: 'succeeded', result: '2', attempts: 1 });
    expect(second.invoked.map(({ attempt }) => attempt?.epoch)).toEqual([2]);
  });

  it('a job that takes its node down three times fails, and nobody knows how it ended', async () => {
    let boot = 1;
    const life = begin(() => {
      // The link breaks, and the agent comes back as another one.
      boot += 1;
      agents.set('n1', agent(`boot-${boot}`));
      return { outcome: 'outcome_unknown', attested: false };
    });
    const id = await submit(life, { retries: 5 });
    expect(await finished(life, id)).toMatchObject({
      ...{
        status: 'failed',
        outcome: 'outcome_unknown',
        error: { errorType: 'Invocation.NodesLost' },
        executionIds: [id],
      },
    });
    expect(life.invoked.map(({ attempt }) => attempt?.alone)).toEqual([false, false, true]);
  });

  it('waits for a node that is away until the budgets of its job have passed', async () => {
    const first = begin(never);
    const id = await submit(first, { timeoutMs: 1_000 });
    await running(first, id);
    await abandon(first);
    const second = begin(() => ok());
    await age(1_000 + 10_000 + 25_000);
    await sleep(2_500);
    expect(await get(second, id)).toMatchObject({ status: 'running' });
    await age(5_500);
    expect(await finished(second, id)).toMatchObject({ status: 'succeeded', attempts: 1 });
    expect(second.invoked).toHaveLength(1);
  });

  it('leaves a job whose link broke to its node, and does not run it beside itself', async () => {
    const life = begin(() => ({ outcome: 'outcome_unknown', attested: false }));
    const id = await submit(life, { retries: 5 });
    await expect.poll(() => life.invoked.length).toBe(1);
    agents.set('n1', agent('boot-1', [id]));
    await age(5_000);
    await sleep(2_500);
    expect(await get(life, id)).toMatchObject({ status: 'running', attempts: 1 });
    await report(life, id);
    expect(await finished(life, id)).toMatchObject({ status: 'succeeded', result: '"late"' });
    expect(life.invoked).toHaveLength(1);
  });

  it('a job that nobody waits for is cancelled at its node, and does not run again', async () => {
    const first = begin(never);
    const id = await submit(first, { retries: 5 });
    await running(first, id);
    await abandon(first);
    const second = begin(never);
    const cancelled: unknown[] = [];
    agents.set('n1', agent('boot-1', [id], cancelled));
    await age(5_000);
    expect(await second.jobs.cancel('a', id)).toMatchObject({ status: 'running', cancelRequestedAt: expect.any(Date) });
    await expect.poll(() => cancelled).toContainEqual({ invocationId: id, epoch: 1 });
    agents.set('n1', agent('boot-2'));
    second.system.nodeConnected();
    expect(await finished(second, id)).toMatchObject({ status: 'cancelled', error: null, attempts: 1 });
    expect(second.invoked).toEqual([]);
  });

  it('cancels a job that waits for its next attempt, with what is known of the ones before', async () => {
    const life = begin(() => failing);
    const id = await submit(life, { retries: 5 });
    await expect.poll(() => life.invoked.length).toBe(2);
    await expect.poll(async () => (await get(life, id)).status).toBe('queued');
    const waiting = finished(life, id);
    const open = await get(life, id);
    expect(open).toMatchObject({ attempts: 2, outcome: 'function_error', error: { errorType: 'Error' }, nodeId: null });
    expect(open.reason).toContain('4 more are allowed');
    expect(await life.jobs.cancel('a', id)).toMatchObject({ status: 'cancelled', attempts: 2, executionIds: [id] });
    expect(await waiting).toMatchObject({ outcome: 'function_error', error: null, reason: null });
    const lanes = await postgres.database.run('lanes', (sql) => sql`select id from lanes where queued <> 0`);
    expect(lanes).toHaveLength(0);
  });

  it('shows what is queued and what runs, by status and page by page', async () => {
    const life = begin(never, 3);
    const ids: string[] = [];
    for (let i = 0; i < 6; i += 1) ids.unshift(await submit(life));
    await expect.poll(() => life.invoked.length).toBe(2);
    const idsOf = async (filter: Parameters<Jobs['list']>[1]) =>
      (await life.jobs.list('a', filter)).map(({ id }) => id);
    expect(await idsOf({ status: 'running', limit: 10 })).toEqual(ids.slice(4));
    expect(await idsOf({ status: 'queued', limit: 3 })).toEqual(ids.slice(0, 3));
    expect(await idsOf({ status: 'queued', limit: 3, beforeId: ids[2] ?? '' })).toEqual([ids[3]]);
    expect(await idsOf({ limit: 10 })).toEqual(ids);
    expect(await idsOf({ status: 'succeeded', limit: 10 })).toEqual([]);
  });

  it('a wait ends for a job that another process finished', async () => {
    const runs = begin(() => ok());
    const [, waits] = [runs, begin(never, 0)];
    const id = await submit(waits);
    runs.system.runner.wake();
    expect(await finished(waits, id)).toMatchObject({ status: 'succeeded' });
    expect(waits.ended).toEqual([]);
  });

  it('keeps long arguments in the queue alone, and passes them on', async () => {
    const args = 'x'.repeat(70_000);
    const life = begin(({ payload }) => ok(String(payload.length)));
    const id = await submit(life, { args });
    const [row] = await postgres.database.run('row', (sql) => sql`select args, args_bytes from jobs where id = ${id}`);
    expect(row).toMatchObject({ args: null, argsBytes: 70_002 });
    expect(await finished(life, id)).toMatchObject({ status: 'succeeded', result: '70002' });
  });

  it('an attempt that was taken over has no say any more', async () => {
    let end = (): void => {};
    const life = begin(
      () =>
        new Promise((resolve) => {
          end = () => resolve(ok());
        }),
    );
    const id = await submit(life);
    await running(life, id);
    await postgres.database.run(
      'take over',
      (sql) => sql`update async_invocations set epoch = 2, owner = gen_random_uuid() where id = ${id}`,
    );
    end();
    await sleep(300);
    expect(await get(life, id)).toMatchObject({ status: 'running', finishedAt: null });
    expect(life.ended).toEqual([]);
  });

  it('a job that is refused by one node and begun by the next has begun once', async () => {
    const life = begin(async (request) => {
      expect(await request.beforeSend?.({ nodeId: 'n2', bootId: 'boot-9' })).toBe(true);
      return ok();
    });
    const job = await finished(life, await submit(life));
    expect(job).toMatchObject({ status: 'succeeded', attempts: 1, nodeId: 'n2' });
    expect(job.executionIds).toHaveLength(1);
  });

  it('writes how a job ended although the database was away when it did', async () => {
    let end = (): void => {};
    const life = begin(
      () =>
        new Promise((resolve) => {
          end = () => resolve(ok('"kept"'));
        }),
    );
    const id = await submit(life);
    await running(life, id);
    await postgres.restart(async () => {
      end();
      // The write is tried while nobody listens.
      await expect(postgres.database.run('away', (sql) => sql`select 1`)).rejects.toMatchObject({
        code: 'unavailable',
      });
    });
    await expect
      .poll(async () => (await get(life, id).catch(() => undefined))?.result, { timeout: 20_000 })
      .toBe('"kept"');
    expect(life.invoked).toHaveLength(1);
  });

  it('removes finished jobs that are old, or too many, and no others', async () => {
    const life = begin((request) => (request.payload.toString() === '"stay"' ? never() : ok()));
    const done: string[] = [];
    for (let i = 0; i < 5; i += 1) done.push(await submit(life));
    for (const id of done) await finished(life, id);
    const open = await submit(life, { args: 'stay' });
    await running(life, open);
    const [oldest = '', ...others] = done;
    await postgres.database.run(
      'age',
      (sql) => sql`
        update jobs set created_at = now() - interval '8 days',
          finished_at = case when finished_at is not null then now() - interval '8 days' end
        where id in (${others[3] ?? ''}, ${open})`,
    );
    const sweep = new JobSweep(postgres.database, { days: 7, perProjectMax: 4 }, log);
    expect(await sweep.run()).toBe(1);
    expect(await new JobSweep(postgres.database, { days: 7, perProjectMax: 2 }, log).run()).toBe(2);
    sweep.close();
    const left = await life.jobs.list('a', { limit: 10 });
    expect(left.map(({ id }) => id)).toEqual([open, others[2], others[1]]);
    expect(left.map(({ id }) => id)).not.toContain(oldest);
  });

  it('sweeps in statements of bounded size', async () => {
    const life = begin(never, 0);
    await Promise.all(Array.from({ length: 450 }, () => submit(life, {}, 'b')));
    await postgres.database.run(
      'finish all',
      (sql) => sql`update jobs set status = 'failed', finished_at = now() - interval '9 days'`,
    );
    const sweep = new JobSweep(postgres.database, { days: 7, perProjectMax: 10 }, log);
    expect(await sweep.run()).toBe(450);
    sweep.close();
  });
});
