import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Fleet } from './fleet/fleet.js';

interface Execution {
  readonly id: string;
  readonly functionName: string;
  readonly trigger: string;
  readonly outcome: string | null;
  readonly attempts: number;
  readonly input?: string | null;
  readonly output?: string | null;
  readonly error: { readonly errorType: string; readonly errorMessage: string } | null;
}

interface DeadLetter {
  readonly id: string;
  readonly condition: string;
  readonly attempts: number;
  readonly payload: string;
  readonly error: { readonly errorType: string };
}

/** The one address of this machine that webhooks may go to. */
const RECEIVER = '127.0.0.9';
const WAIT = { timeout: 30_000, interval: 100 };
const MB = 1024 * 1024;

const FAILS = "export const handler = async () => { throw new RangeError('out of stock'); };";
const ECHOES = 'export const handler = async (event) => ({ got: event });';
const SLEEPS = 'export const handler = async ({ ms }) => await new Promise((resolve) => setTimeout(resolve, ms, ms));';

describe('async invocations with the CLI', () => {
  let fleet: Fleet;
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'lf-async-'));
    fleet = await Fleet.start({ driver: 'process', env: { LAMBDA_WEBHOOK_NETWORKS: `${RECEIVER}/32` } });
  });
  afterAll(async () => {
    await fleet?.dispose();
    await rm(folder, { recursive: true, force: true });
  });

  const cli = async (...args: string[]): Promise<string> => {
    const { code, stdout, stderr } = await fleet.cli(args);
    expect(code, stderr).toBe(0);
    return stdout.trim();
  };
  const deploy = async (name: string, source: string, lambdaJson: object = {}): Promise<void> => {
    const place = join(folder, name);
    await mkdir(place, { recursive: true });
    await writeFile(join(place, 'index.mjs'), source);
    await writeFile(join(place, 'lambda.json'), JSON.stringify({ memoryMb: 128, ...lambdaJson }));
    await cli('deploy', place);
  };
  const execution = async (id: string): Promise<Execution> =>
    (await fleet.api('GET', `/api/executions/${id}`)).json<Execution>();
  const executionsOf = async (name: string): Promise<readonly Execution[]> =>
    (await fleet.api('GET', `/api/executions?function=${name}`)).json<{ executions: Execution[] }>().executions;
  const deadLetters = async (name: string): Promise<string> =>
    await cli('queue', 'ls', '--function', name, '-o', 'name');
  const queued = async (): Promise<number> =>
    (JSON.parse(await cli('queue', 'status', '-o', 'json')) as { queued: number }).queued;

  it('runs what is queued, and keeps how it ended', async () => {
    await deploy('echo', ECHOES);
    const { code, stdout, stderr } = await fleet.cli(['invoke', 'echo', '--async', '--data', '{"n":1}']);
    const id = stdout.trim();
    expect({ code, stderr }).toEqual({ code: 0, stderr: expect.stringContaining(`lambda queue get ${id}`) });
    await expect
      .poll(() => execution(id), WAIT)
      .toMatchObject({
        ...{ functionName: 'echo', trigger: 'async', outcome: 'success' },
        ...{ input: '{"n":1}', output: '{"got":{"n":1}}' },
      });
    expect(await cli('queue', 'get', id)).toMatch(/^outcome +success$/m);
  });

  it('makes a dead letter of what keeps failing, which runs when the function is repaired and it is sent again', async () => {
    await deploy('order', FAILS, { async: { retries: 1, retryDelaysMs: [100] } });
    const id = await cli('invoke', 'order', '--async', '--data', '{"order":12345678901234567890}');
    await expect.poll(() => deadLetters('order'), WAIT).toBe(id);
    const shown = await cli('queue', 'get', id);
    expect(shown).toMatch(/^condition +RetriesExhausted$/m);
    expect(shown).toMatch(/^attempts +2$/m);
    expect(shown).toContain('RangeError: out of stock');
    expect(shown).toContain('"order": 12345678901234567890');
    expect(JSON.parse(await cli('queue', 'get', id, '-o', 'json'))).toMatchObject({
      ...{ id, condition: 'RetriesExhausted', attempts: 2, payload: '{"order":12345678901234567890}' },
      error: { errorType: 'RangeError' },
    } satisfies Partial<DeadLetter>);
    expect(await execution(id)).toMatchObject({ outcome: 'function_error', error: { errorType: 'RangeError' } });

    await deploy('order', ECHOES);
    const newId = await cli('queue', 'retry', id);
    expect(newId).not.toBe(id);
    await expect.poll(() => execution(newId), WAIT).toMatchObject({ outcome: 'success' });
    expect(await execution(newId)).toMatchObject({ output: '{"got":{"order":12345678901234567000}}' });
    expect(await deadLetters('order')).toBe('');
    expect((await fleet.cli(['queue', 'retry', id])).code).toBe(3);
    expect((await fleet.cli(['queue', 'purge', id])).code).toBe(3);
  });

  it('sends many dead letters again at once, and throws away those of one function alone', async () => {
    for (const name of ['many', 'other']) await deploy(name, FAILS, { async: { retries: 0 } });
    for (let n = 0; n < 5; n += 1) await cli('invoke', 'many', '--async', '--data', `{"n":${n}}`);
    const kept = await cli('invoke', 'other', '--async');
    await expect.poll(async () => (await deadLetters('many')).split('\n').length, WAIT).toBe(5);
    await expect.poll(() => deadLetters('other'), WAIT).toBe(kept);
    await deploy('many', ECHOES);
    expect((await fleet.cli(['queue', 'retry', '--function', 'many'])).stderr).toContain('5 dead letters were queued');
    const succeeded = async () => (await executionsOf('many')).filter(({ outcome }) => outcome === 'success').length;
    await expect.poll(succeeded, WAIT).toBe(5);
    const { code, stderr } = await fleet.cli(['queue', 'purge', '--all']);
    expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringContaining('--yes') });
    await cli('queue', 'purge', '--function', 'many', '--yes');
    expect(await deadLetters('other')).toBe(kept);
    await cli('queue', 'purge', '--all', '--yes');
    expect(await deadLetters('other')).toBe('');
  });

  it('sends what became of an invocation to other functions', async () => {
    for (const name of ['done', 'alert']) await deploy(name, ECHOES);
    const destinations = { onSuccess: { function: 'done' }, onFailure: { function: 'alert' } };
    const source = "export const handler = async ({ fail }) => { if (fail) throw new Error('no'); return 'yes'; };";
    await deploy('work', source, { async: { retries: 0, ...destinations } });
    const good = await cli('invoke', 'work', '--async', '--data', '{}');
    const bad = await cli('invoke', 'work', '--async', '--data', '{"fail":true}');
    for (const [name, id, condition, response] of [
      ['done', good, 'Success', '"responsePayload":"yes"'],
      ['alert', bad, 'RetriesExhausted', '"errorMessage":"no"'],
    ] as const) {
      await expect.poll(async () => (await executionsOf(name)).length, WAIT).toBe(1);
      const [sent] = await executionsOf(name);
      expect(sent).toMatchObject({ trigger: 'destination', outcome: 'success' });
      const { input } = await execution(sent?.id ?? '');
      expect(JSON.parse(input ?? '')).toMatchObject({ requestContext: { requestId: id, condition } });
      expect(input).toContain(response);
    }
  });

  it('posts what became of an invocation to a URL, and again when that answers with an error', async () => {
    const deliveries: { headers: Record<string, unknown>; body: string }[] = [];
    const receiver = createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        deliveries.push({ headers: request.headers, body: Buffer.concat(chunks).toString() });
        response.writeHead(deliveries.length === 1 ? 500 : 204).end();
      });
    });
    receiver.listen(0, RECEIVER);
    await once(receiver, 'listening');
    try {
      const url = `http://${RECEIVER}:${(receiver.address() as AddressInfo).port}/hook`;
      await deploy('broken', FAILS, { async: { retries: 1, retryDelaysMs: [100], onFailure: { url } } });
      const id = await cli('invoke', 'broken', '--async', '--data', '{"n":1}');
      await expect.poll(() => deliveries.length, WAIT).toBe(2);
      const [first, second] = deliveries;
      expect(second).toMatchObject({ body: first?.body, headers: { 'x-lambda-source': id } });
      expect(second?.headers['x-request-id']).toBe(first?.headers['x-request-id']);
      expect(JSON.parse(second?.body ?? '')).toMatchObject({
        requestContext: { requestId: id, condition: 'RetriesExhausted', approximateInvokeCount: 2 },
        ...{ requestPayload: { n: 1 }, responsePayload: { errorType: 'RangeError', errorMessage: 'out of stock' } },
      });
      const delivery = String(second?.headers['x-request-id']);
      await expect.poll(() => execution(delivery), WAIT).toMatchObject({ trigger: 'webhook', outcome: 'success' });
    } finally {
      receiver.closeAllConnections();
      receiver.close();
    }
  });

  it('cancels what is queued, which then never runs, and stops what runs', async () => {
    await deploy('nap', SLEEPS, { async: { retries: 1, retryDelaysMs: [100] } });
    await deploy('later', FAILS, { async: { retries: 1, retryDelaysMs: [3_600_000] } });
    const waiting = await cli('invoke', 'later', '--async');
    await expect.poll(() => execution(waiting), WAIT).toMatchObject({ status: 'queued', attempts: 1 });
    const cancelled = await fleet.cli(['queue', 'cancel', waiting]);
    expect(cancelled).toMatchObject({ code: 0, stderr: expect.stringContaining('is cancelled') });
    const error = { errorType: 'Invocation.Cancelled' };
    await expect.poll(() => execution(waiting), WAIT).toMatchObject({ outcome: 'not_started', error });
    expect((await fleet.cli(['queue', 'cancel', waiting])).code).toBe(5);

    const running = await cli('invoke', 'nap', '--async', '--data', '{"ms":25000}');
    await expect.poll(() => execution(running), WAIT).toMatchObject({ status: 'running' });
    await cli('queue', 'cancel', running);
    await expect.poll(async () => (await execution(running)).outcome, WAIT).not.toBeNull();
    await expect.poll(async () => await cli('queue', 'get', running), WAIT).not.toMatch(/^status +(queued|running)$/m);
    expect((await execution(running)).output ?? null).toBeNull();
    expect(await deadLetters('nap')).toBe('');
    expect(await deadLetters('later')).toBe('');
  });

  it('shows and changes settings, and what a deploy does not name stays', async () => {
    await deploy('tuned', ECHOES, { async: { retries: 1 } });
    expect(await cli('async', 'tuned')).toMatch(/^retries +1\nretry delays +1m,2m\nmax age +6h\non success +nowhere/);
    const flags = ['--retry-delays', '1s,10s', '--max-age', '1h', '--on-success', 'fn:tuned'];
    expect(await cli('async', 'tuned', ...flags)).toMatch(
      /^retries +1\nretry delays +1s,10s\nmax age +1h\non success +fn:tuned\non failure +nowhere$/,
    );
    await deploy('tuned', ECHOES, { async: { retries: 0 } });
    expect(await cli('async', 'tuned', '--no-on-success')).toMatch(
      /^retries +0\nretry delays +1s,10s\nmax age +1h\non success +nowhere/,
    );
    expect((await fleet.cli(['async', 'nobody'])).code).toBe(3);
  });

  it.each([
    ['--on-failure', 'fn:nobody', 'onFailure.function names no function'],
    ['--on-failure', 'http://127.0.0.1:5432/', 'onFailure.url cannot be sent to'],
    ['--on-success', 'http://2130706433/', 'not a public address'],
    ['--on-success', 'http://0x7f.1/', 'not a public address'],
    ['--on-success', 'http://[::ffff:127.0.0.1]/', 'not a public address'],
    ['--on-success', 'http://localhost:8080/', 'not a public address'],
    ['--on-success', 'http://169.254.169.254/latest/meta-data/', 'not a public address'],
    ['--on-success', 'http://user:secret@1.1.1.1/', 'user name or password'],
  ])('refuses the destination %s %s, and changes nothing', async (flag, value, message) => {
    await deploy('guarded', ECHOES);
    const before = await cli('async', 'guarded');
    const { code, stdout, stderr } = await fleet.cli(['async', 'guarded', '--retries', '5', flag, value]);
    expect({ code, stdout, stderr }).toEqual({ code: 2, stdout: '', stderr: expect.stringContaining(message) });
    expect(await cli('async', 'guarded')).toBe(before);
  });

  it('takes a public address as a destination', async () => {
    await deploy('hooked', ECHOES);
    expect(await cli('async', 'hooked', '--on-failure', 'https://1.1.1.1/hook')).toContain('https://1.1.1.1/hook');
    expect(await cli('async', 'hooked', '--no-on-failure')).toMatch(/on failure +nowhere$/);
  });

  it('says that a function is deployed when its settings in lambda.json are refused', async () => {
    const place = join(folder, 'half');
    await mkdir(place);
    await writeFile(join(place, 'index.mjs'), ECHOES);
    await writeFile(join(place, 'lambda.json'), '{"async":{"onFailure":{"function":"nobody"}}}');
    const { code, stderr } = await fleet.cli(['deploy', place]);
    expect({ code, stderr }).toEqual({
      code: 2,
      stderr: expect.stringMatching(/half is deployed[\s\S]*names no function/),
    });
    expect(await cli('invoke', 'half')).toBe('{"got":{}}');
    await writeFile(join(place, 'lambda.json'), '{\n"async":{"retries":9}}');
    const refused = await fleet.cli(['deploy', place]);
    expect(refused).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('lambda.json:2: "async.retries" must be'),
    });
  });

  it('refuses what it cannot run, and stores nothing of it', async () => {
    await deploy('strict', ECHOES);
    const before = await queued();
    const headers = { authorization: `Bearer ${await fleet.apiKey()}` };
    const post = async (name: string, query: string, body: string) =>
      await fleet.call({ path: `/api/functions/${name}/invocations${query}`, method: 'POST', headers, body });
    const codeOf = ({ status, text }: { status: number; text: string }) =>
      `${status} ${(JSON.parse(text) as { error: { code: string } }).error.code}`;

    expect(codeOf(await post('nobody', '?mode=async', '{}'))).toBe('404 function_not_found');
    expect((await fleet.cli(['invoke', 'nobody', '--async'])).code).toBe(3);
    for (const mode of ['later', '', 'ASYNC', '%00'])
      expect(codeOf(await post('strict', `?mode=${mode}`, '{}')), mode).toBe('400 invalid_request');
    const long = (bytes: number) => JSON.stringify('x'.repeat(bytes - 2));
    expect(codeOf(await post('strict', '?mode=async', long(MB + 1)))).toBe('413 payload_too_large');
    expect((await fleet.cli(['invoke', 'strict', '--async', '-d', '-'], { input: long(MB + 1) })).code).toBe(2);
    const without = await fleet.call({
      path: '/api/functions/strict/invocations?mode=async',
      method: 'POST',
      body: '{}',
    });
    expect(codeOf(without)).toBe('401 unauthorized');
    expect(await queued()).toBe(before);
    expect(await executionsOf('strict')).toEqual([]);

    const { stdout } = await fleet.cli(['invoke', 'strict', '--async', '-d', '-'], { input: long(MB) });
    await expect.poll(() => execution(stdout.trim()), WAIT).toMatchObject({ outcome: 'success' });

    for (const id of ['x', '019b7c52-8d0e-7c1b-b0f4-6a3a5a1e9c11', '%00']) {
      expect(codeOf(await fleet.api('POST', `/api/executions/${id}/cancel`)), id).toBe('409 conflict');
      expect(codeOf(await fleet.api('GET', `/api/dead-letters/${id}`)), id).toBe('404 dead_letter_not_found');
    }
    expect(codeOf(await fleet.api('POST', '/api/dead-letters/redrive', {}))).toBe('400 invalid_request');
    expect(codeOf(await fleet.api('POST', '/api/dead-letters/purge', { all: false }))).toBe('400 invalid_request');
    expect(codeOf(await fleet.api('GET', '/api/dead-letters?cursor=x'))).toBe('400 invalid_request');
    for (const settings of [{ retries: -1 }, { retries: '1' }, { retryDelaysMs: [] }, { colour: 1 }, []])
      expect(codeOf(await fleet.api('PATCH', '/api/functions/strict/async', settings))).toBe('400 invalid_request');
    expect((await fleet.cli(['queue', 'get', 'x'])).code).toBe(3);
  });
});
