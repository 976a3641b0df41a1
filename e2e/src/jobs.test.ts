import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Fleet, REPOSITORY } from './fleet/fleet.js';
import { descendantsOf } from './fleet/processes.js';

interface Job {
  readonly id: string;
  readonly status: string;
  readonly outcome: string | null;
  readonly attempts: number;
  readonly executionIds: readonly string[];
  readonly error: {
    readonly errorType: string;
    readonly errorMessage: string;
    readonly location?: { readonly file: string; readonly line: number };
  } | null;
  readonly result: unknown;
  readonly logs: readonly { readonly text: string }[];
  readonly receipt: Readonly<Record<string, unknown>> | null;
  readonly finishedAt: string | null;
}

const SLEEP = 'await sleep(args.ms); return args.ms;';
const MB = 1024 * 1024;

async function submit(fleet: Fleet, body: object): Promise<string> {
  const answer = await fleet.api('POST', '/api/jobs', { memoryMb: 128, ...body });
  expect(answer.status, answer.text).toBe(202);
  return answer.json<Job>().id;
}

async function get(fleet: Fleet, id: string, waitMs = 0): Promise<Job> {
  const answer = await fleet.api('GET', `/api/jobs/${id}?waitMs=${waitMs}`);
  expect(answer.status, answer.text).toBe(200);
  return answer.json<Job>();
}

async function finished(fleet: Fleet, id: string): Promise<Job> {
  const giveUpAt = Date.now() + 120_000;
  for (;;) {
    const job = await get(fleet, id, 20_000);
    if (job.finishedAt !== null) return job;
    if (Date.now() > giveUpAt) throw new Error(`the job does not finish: ${JSON.stringify(job)}\n${fleet.output}`);
  }
}

async function running(fleet: Fleet, ids: readonly string[]): Promise<void> {
  const statuses = async () => (await Promise.all(ids.map((id) => get(fleet, id)))).map(({ status }) => status);
  await expect.poll(statuses, { timeout: 30_000 }).toEqual(ids.map(() => 'running'));
}

const run = async (fleet: Fleet, body: object): Promise<Job> => await finished(fleet, await submit(fleet, body));

const busy = async (fleet: Fleet): Promise<number> =>
  (await fleet.api('GET', '/api/nodes'))
    .json<{ nodes: { sandboxes: { busy: number } }[] }>()
    .nodes.reduce((sum, node) => sum + node.sandboxes.busy, 0);

describe.each(['docker', 'process'] as const)('jobs on the %s driver', (driver) => {
  let fleet: Fleet;
  beforeAll(async () => {
    // One lane alone may take eight of these places.
    fleet = await Fleet.start({ driver, env: { LAMBDA_JOBS_CONCURRENCY: '11', LAMBDA_SLOTS: '8' } });
  });
  afterAll(() => fleet?.dispose());

  it('runs JavaScript and Python, and keeps the result, the lines, the receipt and an execution', async () => {
    const job = await run(fleet, {
      code: "console.log('adding'); return { sum: args.a + args.b };",
      args: { a: 2, b: 3 },
    });
    expect(job).toMatchObject({ status: 'succeeded', attempts: 1, result: { sum: 5 }, error: null });
    expect(job.logs.map(({ text }) => text.replace(/^.*\t/, ''))).toEqual(['adding']);
    expect(job.receipt).toMatchObject({ sandboxId: expect.any(String), runMs: expect.any(Number), memoryMb: 128 });
    expect(job.receipt?.start).not.toBe('warm');
    const [executionId = ''] = job.executionIds;
    const execution = async () => (await fleet.api('GET', `/api/executions/${executionId}`)).json();
    await expect.poll(execution).toMatchObject({ trigger: 'job', functionName: 'job', outcome: 'success' });
    const listed = (await fleet.api('GET', '/api/executions?trigger=job')).text;
    expect(listed).toContain(executionId);

    const code = 'def main(args):\n    print("adding")\n    return {"sum": args["a"] + args["b"]}\n';
    const python = await run(fleet, { code, args: { a: 2, b: 3 }, runtime: 'python' });
    expect(python).toMatchObject({ status: 'succeeded', result: { sum: 5 }, logs: [{ text: 'adding' }] });
    expect(await run(fleet, { code: 'result = args', runtime: 'python', args: [1] })).toMatchObject({ result: [1] });
  });

  it('never gives a job a sandbox that another one has used', async () => {
    const code = 'globalThis.seen = (globalThis.seen ?? 0) + 1; return globalThis.seen;';
    const jobs = [await run(fleet, { code }), await run(fleet, { code }), await run(fleet, { code })];
    expect(jobs.map(({ result }) => result)).toEqual([1, 1, 1]);
    expect(new Set(jobs.map(({ receipt }) => receipt?.sandboxId)).size).toBe(3);
    await expect.poll(() => busy(fleet)).toBe(0);
  });

  it.each([
    ['nodejs', 'const a = 1;\nreturn a +;\n', 'job.js'],
    ['python', 'a = 1\nreturn a +\n', 'job.py'],
  ])('says where %s code does not parse, and goes on', async (runtime, code, file) => {
    const job = await run(fleet, { code, runtime, retries: 3 });
    expect(job).toMatchObject({
      ...{ status: 'failed', outcome: 'function_error', attempts: 1 },
      error: { errorType: 'Runtime.UserCodeSyntaxError', location: { file, line: 2 } },
    });
    expect(await run(fleet, { code: runtime === 'python' ? 'result = 1' : 'return 1', runtime })).toMatchObject({
      result: 1,
    });
  });

  it('tries a job again that throws, and keeps the last error and the lines of all attempts', async () => {
    const job = await run(fleet, { code: "console.log('trying'); throw new RangeError('too much');", retries: 2 });
    expect(job).toMatchObject({
      ...{ status: 'failed', attempts: 3, error: { errorType: 'RangeError', errorMessage: 'too much' } },
    });
    const { logs } = (await fleet.api('GET', `/api/jobs/${job.id}/logs`)).json<{ logs: { text: string }[] }>();
    expect(logs.filter(({ text }) => text.includes('trying'))).toHaveLength(3);
  });

  it.each([
    ['loops', { code: 'for (;;) {}', timeoutMs: 1_000 }],
    [
      'loops in microtasks',
      { code: 'const f = () => void Promise.resolve().then(f); f(); await sleep(1);', timeoutMs: 1_000 },
    ],
    ['waits', { code: SLEEP, args: { ms: 60_000 }, timeoutMs: 1_000 }],
    ['loops in Python', { code: 'while True: pass', timeoutMs: 1_000, runtime: 'python' }],
  ])('ends a job that %s at its timeout', async (_what, body) => {
    const job = await run(fleet, body);
    expect(job).toMatchObject({ status: 'timed_out', outcome: 'timeout', error: { errorType: 'Sandbox.Timedout' } });
  });

  it('says that a job ran out of memory', async () => {
    const code = 'const all = []; for (;;) all.push(new Array(1e5).fill(all.length));';
    const job = await run(fleet, { code, memoryMb: 64 });
    expect(job).toMatchObject({ status: 'failed', error: { errorType: 'Runtime.OutOfMemory' } });
  });

  it('stops a running job at its node, and a queued one before it starts', async () => {
    const ids: string[] = [];
    for (let i = 0; i < 8; i += 1)
      ids.push(await submit(fleet, { code: SLEEP, args: { ms: 120_000 }, timeoutMs: 200_000 }));
    await running(fleet, ids);
    const queued = await submit(fleet, { code: 'return 1' });
    expect(await get(fleet, queued)).toMatchObject({ status: 'queued', attempts: 0 });
    const cancelled = await fleet.api('POST', `/api/jobs/${queued}/cancel`);
    expect(cancelled).toMatchObject({ status: 200 });
    expect(await get(fleet, queued)).toMatchObject({ status: 'cancelled', attempts: 0, executionIds: [] });
    // 200 when it has ended by the time of the answer.
    for (const id of ids) expect([200, 202]).toContain((await fleet.api('POST', `/api/jobs/${id}/cancel`)).status);
    for (const id of ids) expect(await finished(fleet, id)).toMatchObject({ status: 'cancelled' });
    await expect.poll(() => busy(fleet), { timeout: 10_000 }).toBe(0);
    expect((await fleet.api('POST', `/api/jobs/${queued}/cancel`)).status).toBe(200);
  });

  it.each([
    ['a prototype', '{"__proto__":{"polluted":true},"constructor":{"prototype":1}}'],
    ['quotes, line separators and half characters', JSON.stringify('\u2028"`</script>\\\ud800\0')],
    ['depth', `${'['.repeat(500)}${']'.repeat(500)}`],
    ['600 KB', JSON.stringify('x'.repeat(600_000))],
  ])('arguments with %s arrive as they are and harm nothing', async (_what, args) => {
    for (const [runtime, code] of [
      ['nodejs', 'if ({}.polluted) throw new Error("polluted"); return args;'],
      ['python', 'def main(args):\n    return args'],
    ]) {
      const headers = { 'x-api-key': await fleet.apiKey(), 'content-type': 'application/json' };
      const body = `{"code":${JSON.stringify(code)},"runtime":"${runtime}","args":${args}}`;
      const { id } = (await fleet.call({ method: 'POST', path: '/api/jobs', headers, body })).json<Job>();
      expect(await finished(fleet, id)).toMatchObject({ status: 'succeeded' });
      const result = await fleet.api('GET', `/api/jobs/${id}/result`);
      expect(result.json()).toEqual(JSON.parse(args));
    }
  });

  it('takes 6 MB of arguments and not a byte more', async () => {
    const most = 'x'.repeat(6 * MB - 2);
    const job = await run(fleet, { code: 'return args.length;', args: most });
    expect(job).toMatchObject({ status: 'succeeded', result: 6 * MB - 2 });
    const answer = await fleet.api('POST', '/api/jobs', { code: '1', args: `${most}x` });
    expect([answer.status, answer.text]).toEqual([413, expect.stringContaining('payload_too_large')]);
  });

  it('runs code with line separators, and refuses half characters', async () => {
    expect(await run(fleet, { code: "const s = '\u2028\u2029'; return [s.length, '\\ud800🦊žluť'];" })).toMatchObject({
      result: [2, '\ud800🦊žluť'],
    });
    expect((await fleet.api('POST', '/api/jobs', { code: "return '\ud800';" })).status).toBe(400);
  });

  it('keeps to the code that it was given: nothing of Node, and no way to the runtime', async () => {
    const code = `
      const names = ['process', 'require', 'module', 'Buffer', 'fetch', 'WebAssembly'];
      const found = names.filter((name) => typeof globalThis[name] !== 'undefined');
      try { found.push(String(args.constructor.constructor('return process')())); } catch {}
      return found;`;
    expect(await run(fleet, { code, args: {} })).toMatchObject({ status: 'succeeded', result: [] });
    for (const path of ['fs', 'node:child_process']) {
      expect(await run(fleet, { code: `return await import('${path}');` })).toMatchObject({
        error: { errorType: 'Runtime.UserCodeSyntaxError', location: { line: 1 } },
      });
    }
  });

  it('runs the examples with the CLI', async () => {
    const example = (name: string) => join(REPOSITORY, 'examples/jobs', name);
    const primes = await fleet.cli(['jobs', 'run', example('primes.js'), '--args', '{"limit":100}', '--wait']);
    expect(primes).toMatchObject({ code: 0, stdout: '{"count":25,"largest":97}' });
    expect(primes.stderr).toContain('25 primes up to 100');
    const words = await fleet.cli(['jobs', 'run', example('word_count.py'), '--args', '{"text":"a b a"}', '--wait']);
    expect(JSON.parse(words.stdout)).toEqual({
      words: 3,
      most_common: [
        ['a', 2],
        ['b', 1],
      ],
    });
    const thrown = await fleet.cli(['jobs', 'run', '-', '--wait'], { input: 'throw new TypeError("no");' });
    expect(thrown).toMatchObject({ code: 6, stdout: '', stderr: expect.stringContaining('TypeError: no') });
    const { stdout } = await fleet.cli(['jobs', 'run', '-'], { input: 'return 1;' });
    await finished(fleet, stdout.trim());
    expect((await fleet.cli(['jobs', 'ls', '--status', 'succeeded', '-o', 'name'])).stdout).toContain(stdout.trim());
    expect((await fleet.cli(['jobs', 'get', 'no-such-job'])).code).toBe(3);
  });

  it('runs many at once, each of them once', async () => {
    const count = driver === 'process' ? 300 : 40;
    const ids = await Promise.all(
      Array.from({ length: count }, (_, n) => submit(fleet, { code: 'return args.n * 2;', args: { n }, memoryMb: 64 })),
    );
    for (const [n, id] of ids.entries()) {
      expect(await finished(fleet, id)).toMatchObject({ status: 'succeeded', result: n * 2, attempts: 1 });
    }
    const executions = async (): Promise<number> => {
      const mine = new Set((await Promise.all(ids.map((id) => get(fleet, id)))).flatMap((job) => job.executionIds));
      const { executions } = (await fleet.api('GET', '/api/executions?trigger=job&limit=1000')).json<{
        executions: { id: string; outcome: string }[];
      }>();
      return executions.filter(({ id, outcome }) => mine.has(id) && outcome === 'success').length;
    };
    await expect.poll(executions, { timeout: 10_000 }).toBe(count);
    await expect.poll(() => busy(fleet)).toBe(0);
  });
});

describe.each(['docker', 'process'] as const)('jobs on the %s driver after kill -9', (driver) => {
  let fleet: Fleet | undefined;
  afterEach(async () => {
    await fleet?.dispose();
    fleet = undefined;
  });

  const killAll = async (of: Fleet, ...programs: string[]): Promise<void> => {
    const victims = (await descendantsOf(of.process.pid ?? 0)).filter(({ command }) =>
      programs.some((program) => command.includes(program)),
    );
    expect(victims).toHaveLength(programs.length);
    for (const { pid } of victims) process.kill(pid, 'SIGKILL');
  };
  const start = async (): Promise<Fleet> => {
    // One lane alone may take four of these places.
    fleet = await Fleet.start({ driver, env: { LAMBDA_JOBS_CONCURRENCY: '6', LAMBDA_SLOTS: '8' } });
    return fleet;
  };

  it('of the control plane: what runs is finished and not run again, what is queued runs', async () => {
    const system = await start();
    const slow: string[] = [];
    for (let i = 0; i < 4; i += 1) slow.push(await submit(system, { code: SLEEP, args: { ms: 6_000 }, retries: 3 }));
    await running(system, slow);
    const queued: string[] = [];
    for (let n = 0; n < 12; n += 1) queued.push(await submit(system, { code: 'return args.n;', args: { n } }));
    expect(await get(system, queued[0] ?? '')).toMatchObject({ status: 'queued' });
    await killAll(system, 'control-plane/dist/main.js');
    await system.recovered();
    for (const [n, id] of queued.entries()) {
      expect(await finished(system, id)).toMatchObject({ status: 'succeeded', result: n, attempts: 1 });
    }
    for (const id of slow) {
      expect(await finished(system, id)).toMatchObject({ status: 'succeeded', result: 6_000, attempts: 1 });
    }
    const executions = async () =>
      (await system.api('GET', '/api/executions?trigger=job&limit=100')).json<{ executions: unknown[] }>().executions;
    await expect.poll(async () => (await executions()).length).toBe(16);
  });

  it('of the control plane and the agent: what ran runs again, and that costs no retry', async () => {
    const system = await start();
    const jobs = [
      await submit(system, { code: SLEEP, args: { ms: 5_000 } }),
      await submit(system, { code: SLEEP, args: { ms: 5_000 }, retries: 1 }),
    ];
    await running(system, jobs);
    await killAll(system, 'control-plane/dist/main.js', 'node-agent/dist/main.js');
    await system.recovered();
    for (const id of jobs) {
      expect(await finished(system, id)).toMatchObject({ status: 'succeeded', result: 5_000, attempts: 1 });
      const execution = (await system.api('GET', `/api/executions/${id}`)).json();
      expect(execution).toMatchObject({ trigger: 'job', outcome: 'success', epoch: 2 });
    }
  });
});
