import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { PostgresArtifactStore } from '../artifacts/postgres-artifact-store.js';
import { startTestPostgres, type TestPostgres } from '../db/test-postgres.js';
import type { ExecutionRecord } from '../executions/execution-rows.js';
import { insertExecutions } from '../invocations/insert-executions.js';
import type { InvocationRequest, InvocationResult, Invoke } from '../invocations/invocation.js';
import type { JobDetail } from './job.js';
import { JobProgress } from './job-progress.js';
import { JobRunner } from './job-runner.js';
import { JobSettler } from './job-settler.js';
import { parseSubmission } from './job-submission.js';
import { JobSweep } from './job-sweep.js';
import { JobTable } from './job-table.js';
import { JobWaiters } from './job-waiters.js';
import { Jobs } from './jobs.js';
import { type ConnectedAgent, OrphanedJobs } from './orphaned-jobs.js';

const log = pino({ level: 'silent' });

type Answer = Partial<InvocationResult>;

/** One life of a control plane, with nodes that are played by the test. */
interface Life {
  readonly jobs: Jobs;
  readonly invoked: InvocationRequest[];
  readonly runner: JobRunner;
}

describe('the runner of jobs', () => {
  let postgres: TestPostgres;
  const agents = new Map<string, ConnectedAgent>();
  const lives: Life[] = [];
  beforeAll(async () => {
    postgres = await startTestPostgres();
    await postgres.database.run('add projects', (sql) => sql`insert into projects (project_id) values ('a'), ('b')`);
  });
  afterAll(() => postgres.close());
  afterEach(async () => {
    for (const life of lives.splice(0)) life.runner.close();
    agents.clear();
    await postgres.database.run('empty', (sql) => sql`delete from jobs`);
  });

  const begin = (
    answer: (request: InvocationRequest) => Answer | Promise<Answer>,
    concurrencyMax = 4,
    startGraceMs?: number,
  ): Life => {
    const { database } = postgres;
    const invoked: InvocationRequest[] = [];
    const invoke: Invoke = async (version, request) => {
      const refused = { outcome: 'not_started', attested: false } as const;
      const mayRun = (await request.beforeSend?.({ nodeId: 'n1', bootId: 'boot-1' })) ?? true;
      if (mayRun) invoked.push(request);
      const given = mayRun ? await answer(request) : refused;
      const base = { id: request.id, version, body: Buffer.alloc(0), receipt: {}, nodeId: 'n1', attested: true };
      return { ...base, outcome: 'success', ...given };
    };
    const progress = new JobProgress(database);
    const waiters = new JobWaiters();
    const settler = new JobSettler({ progress, waiters, onFinished: () => undefined, log });
    const orphans = new OrphanedJobs({
      ...{ progress, settler, agent: (nodeId) => agents.get(nodeId), startGraceMs, log },
    });
    const artifacts = new PostgresArtifactStore(database);
    const runner = new JobRunner({
      logsStored: () => Promise.resolve(),
      ...{ progress, settler, orphans, artifacts, invoke, forgetVersions: () => undefined, concurrencyMax, log },
    });
    const table = new JobTable(database, { queuedMax: 1_000, argsBytesMax: 1e9 });
    const life = {
      ...{ jobs: new Jobs({ table, runner, waiters }), invoked, runner },
    };
    runner.start();
    lives.push(life);
    return life;
  };
  /** As kill -9 leaves it: what is in progress goes on nowhere, and nobody writes anything any more. */
  const abandon = (life: Life): void => life.runner.close();
  const never = (): Promise<Answer> => new Promise(() => undefined);
  const ok = (text = '1'): Answer => ({ body: Buffer.from(text) });
  const submit = async (life: Life, body: object = {}, projectId = 'a'): Promise<string> =>
    (await life.jobs.submit(projectId, { code: 'return 1', ...body })).job.id;
  const get = (life: Life, id: string, projectId = 'a'): Promise<JobDetail> =>
    life.jobs.get(projectId, id, 0, new AbortController().signal);
  const finished = async (life: Life, id: string, projectId = 'a'): Promise<JobDetail> => {
    const job = await life.jobs.get(projectId, id, 30_000, new AbortController().signal);
    expect(job.finishedAt).not.toBeNull();
    return job;
  };
  const running = async (life: Life, id: string): Promise<JobDetail> => {
    await expect.poll(async () => (await get(life, id)).status).toBe('running');
    return await get(life, id);
  };
  const record = (job: JobDetail, changes: Partial<ExecutionRecord>): Promise<void> =>
    insertExecutions(postgres.database, [
      {
        ...{ id: job.executionIds.at(-1) ?? '', projectId: 'a', functionId: uuidv7(), functionName: 'job' },
        ...{ versionId: job.id, versionNumber: 1, trigger: 'job', epoch: 1, outcome: 'success', statusCode: undefined },
        ...{ error: undefined, receipt: { sandboxId: 's' }, nodeId: 'n1', input: undefined, output: '"late"' },
        ...{ keepPayloads: true, startedAtMs: Date.now(), finishedAtMs: Date.now() },
        ...changes,
      },
    ]);

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
    const first = begin(never);
    abandon(first);
    const a = [await submit(first), await submit(first), await submit(first)];
    const b = [await submit(first, {}, 'b'), await submit(first, {}, 'b')];
    const life = begin(() => ok(), 1);
    for (const id of a) await finished(life, id);
    for (const id of b) await finished(life, id, 'b');
    const rows = await postgres.database.run(
      'order',
      (sql) => sql<{ id: string; projectId: string }[]>`select id, project_id from jobs order by started_at`,
    );
    expect(rows.map(({ projectId }) => projectId).join('')).toBe('ababa');
    expect(rows.filter(({ projectId }) => projectId === 'a').map(({ id }) => id)).toEqual(a);
    expect(rows.filter(({ projectId }) => projectId === 'b').map(({ id }) => id)).toEqual(b);
  });

  it('a project with many jobs in progress does not keep another one waiting', async () => {
    const releases: (() => void)[] = [];
    const life = begin(() => new Promise((resolve) => releases.push(() => resolve(ok()))), 3);
    for (let i = 0; i < 20; i += 1) await submit(life);
    await expect.poll(() => life.invoked.length).toBe(3);
    const other = await submit(life, {}, 'b');
    releases.shift()?.();
    await expect.poll(() => life.invoked.length).toBe(4);
    expect((await get(life, other, 'b')).status).toBe('running');
  });

  it('after a crash queued jobs run, once each', async () => {
    const first = begin(never, 2);
    const ids = [await submit(first), await submit(first), await submit(first), await submit(first)];
    await expect.poll(() => first.invoked.length).toBe(2);
    abandon(first);
    const second = begin(() => ok());
    for (const id of ids.slice(2))
      expect(await finished(second, id)).toMatchObject({ status: 'succeeded', attempts: 1 });
    // Those that were sent may be running still.
    for (const id of ids.slice(0, 2)) expect(await get(second, id)).toMatchObject({ status: 'running', attempts: 1 });
    expect(second.invoked).toHaveLength(2);
  });

  it('a job that ran during a crash gets the result that its node reports afterwards, and does not run again', async () => {
    const first = begin(never);
    const id = await submit(first, { retries: 3 });
    const job = await running(first, id);
    abandon(first);
    const second = begin(() => ok('"again"'));
    agents.set('n1', { bootId: 'boot-1', cancel: () => undefined });
    await second.runner.settleOrphans();
    expect((await get(second, id)).status).toBe('running');
    await record(job, {});
    await second.runner.settleOrphans();
    expect(await get(second, id)).toMatchObject({
      ...{ status: 'succeeded', result: '"late"', attempts: 1, receipt: { sandboxId: 's' } },
    });
    expect(second.invoked).toEqual([]);
  });

  it('believes no other node about it', async () => {
    const first = begin(never);
    const id = await submit(first);
    const job = await running(first, id);
    abandon(first);
    const second = begin(never);
    await record(job, { nodeId: 'thief', output: '"forged"' });
    await second.runner.settleOrphans();
    expect((await get(second, id)).status).toBe('running');
  });

  it.each([
    [0, 'failed'],
    [1, 'succeeded'],
  ] as const)('with %i retries a job whose agent was started again is outcome_unknown: %s', async (retries, status) => {
    const first = begin(never);
    const id = await submit(first, { retries });
    await running(first, id);
    abandon(first);
    agents.set('n1', { bootId: 'boot-2', cancel: () => undefined });
    const second = begin(() => ok('2'));
    await second.runner.settleOrphans();
    const job = await finished(second, id);
    expect(job).toMatchObject({
      status,
      attempts: retries + 1,
      outcome: retries === 0 ? 'outcome_unknown' : 'success',
    });
    if (retries === 0) expect(job.error?.errorMessage).toContain('n1');
    expect(second.invoked).toHaveLength(retries);
  });

  it('gives a job up whose node is gone, when its budgets have passed and agents had time to come back', async () => {
    const first = begin(never);
    const id = await submit(first, { timeoutMs: 1_000 });
    await running(first, id);
    abandon(first);
    const early = begin(never, 4, 0);
    await early.runner.settleOrphans();
    expect((await get(early, id)).status).toBe('running');
    abandon(early);
    const patient = begin(never);
    await postgres.database.run(
      'let time pass',
      (sql) =>
        sql`update jobs set started_at = now() - interval '1 second' - interval '10 seconds' - interval '31 seconds'`,
    );
    await patient.runner.settleOrphans();
    expect((await get(patient, id)).status).toBe('running');
    const hasty = begin(never, 4, 0);
    await hasty.runner.settleOrphans();
    expect(await get(hasty, id)).toMatchObject({ status: 'failed', outcome: 'outcome_unknown' });
  });

  it('leaves a job whose link broke to its node, and does not run it beside itself', async () => {
    const life = begin(() => ({ outcome: 'outcome_unknown', attested: false }));
    const id = await submit(life, { retries: 5 });
    await expect.poll(() => life.invoked.length).toBe(1);
    const job = await running(life, id);
    // What the journal writes when a link breaks is no word of the node's.
    await record(job, { outcome: 'outcome_unknown', receipt: { memoryMb: 1 }, output: undefined });
    await life.runner.settleOrphans();
    expect(await get(life, id)).toMatchObject({ status: 'running', attempts: 1 });
    await record(job, {
      outcome: 'function_error',
      error: { errorType: 'Error', errorMessage: 'x' },
      output: undefined,
    });
    await life.runner.settleOrphans();
    // Now it is known how it ended, and it may run again.
    await expect.poll(() => life.invoked.length).toBe(2);
    expect(await get(life, id)).toMatchObject({ attempts: 2, outcome: 'function_error' });
  });

  it('a job that was lost with its node is cancelled at the node as soon as that is back', async () => {
    const first = begin(never);
    const id = await submit(first, { retries: 5 });
    const job = await running(first, id);
    abandon(first);
    const second = begin(never);
    expect((await second.jobs.cancel('a', id)).status).toBe('running');
    const cancelled: string[] = [];
    agents.set('n1', { bootId: 'boot-1', cancel: (invocationId) => cancelled.push(invocationId) });
    await second.runner.settleOrphans();
    expect(cancelled).toContain(job.executionIds[0]);
    await record(job, { outcome: 'outcome_unknown', output: undefined });
    await second.runner.settleOrphans();
    expect(await get(second, id)).toMatchObject({ status: 'cancelled', error: null });
    expect(second.invoked).toEqual([]);
  });

  it("an earlier attempt's late end changes nothing", async () => {
    const life = begin(never);
    const id = await submit(life);
    await running(life, id);
    const progress = new JobProgress(postgres.database);
    const record = { outcome: 'function_error', error: null, receipt: null } as const;
    const ending = { ...record, status: 'failed', result: null, resultBytes: null } as const;
    expect(await progress.finish(id, uuidv7(), ending)).toBeUndefined();
    expect(await progress.putBack(id, uuidv7(), record, { delayMs: 0, reason: '' })).toBe(false);
    expect(await progress.defer(id, uuidv7(), { delayMs: 0, reason: '' })).toBe(false);
    expect(await progress.begin(id, uuidv7(), { nodeId: 'n2', bootId: 'b' })).toBe(false);
    expect((await get(life, id)).status).toBe('running');
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
    const table = new JobTable(postgres.database, { queuedMax: 1_000, argsBytesMax: 1e9 });
    for (let i = 0; i < 450; i += 1) await table.insert(parseSubmission('b', { code: '1' }));
    await postgres.database.run(
      'finish all',
      (sql) => sql`update jobs set status = 'failed', finished_at = now() - interval '9 days'`,
    );
    const sweep = new JobSweep(postgres.database, { days: 7, perProjectMax: 10 }, log);
    expect(await sweep.run()).toBe(450);
    sweep.close();
  });
});
