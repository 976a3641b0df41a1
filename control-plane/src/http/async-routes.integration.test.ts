import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startTestControlPlane, type TestControlPlane } from './test-control-plane.js';

interface Listed {
  readonly executions: readonly { readonly id: string; readonly status: string; readonly trigger: string }[];
  readonly nextCursor: string | null;
}

describe('async invocations over HTTP', () => {
  let plane: TestControlPlane;
  const releases: (() => void)[] = [];
  beforeAll(async () => {
    plane = await startTestControlPlane();
    plane.behave.invocation = async ({ payload }) => {
      const event = JSON.parse(String(payload)) as { hold?: true; fail?: true };
      if (event.hold) await new Promise<void>((resolve) => releases.push(resolve));
      if (!event.fail) return { body: payload };
      const error = { errorType: 'Error', errorMessage: 'no', trace: [], file: '', line: 0, column: 0 };
      return { outcome: 'function_error', error };
    };
    for (const name of ['f', 'other']) {
      const made = await plane.call('POST', '/api/functions', { name, code: { source: 'export const handler = 1' } });
      expect(made.status).toBe(201);
    }
    expect((await plane.call('PATCH', '/api/functions/f/async', { retries: 0 })).status).toBe(200);
  });
  afterAll(() => plane.close());

  const accept = async (event: object): Promise<string> => {
    const answer = await plane.call('POST', '/api/functions/f/invocations?mode=async', event);
    expect(answer).toMatchObject({ status: 202, body: { function: 'f', status: 'queued' } });
    return String(answer.body.id);
  };
  const get = async (id: string) => (await plane.call('GET', `/api/executions/${id}`)).body;
  const list = async (query: string) => (await plane.call('GET', `/api/executions?${query}`)).body as unknown as Listed;
  const ended = (id: string) => expect.poll(() => get(id), { timeout: 10_000 }).toHaveProperty('finishedAt');

  it('shows an invocation while it runs and when it has ended, alone and in lists', async () => {
    const [done, held] = [await accept({ n: 1 }), await accept({ hold: true })];
    await ended(done);
    expect(await get(done)).toMatchObject({ status: 'succeeded', trigger: 'async', attempts: 1, output: '{"n":1}' });
    await expect.poll(() => get(held)).toMatchObject({ status: 'running', functionName: 'f', attempts: 0 });
    expect((await list('status=running')).executions.map(({ id }) => id)).toEqual([held]);
    expect((await list('status=succeeded')).executions.map(({ id }) => id)).toEqual([done]);
    expect((await list('trigger=async')).executions.map(({ id }) => id)).toEqual([held, done]);
    const first = await list('trigger=async&limit=1');
    expect(first.executions.map(({ id }) => id)).toEqual([held]);
    const second = await list(`trigger=async&limit=1&cursor=${first.nextCursor}`);
    expect([second.executions.map(({ id }) => id), second.nextCursor]).toEqual([[done], null]);
    expect((await plane.call('GET', '/api/queue')).body).toMatchObject({ queued: 0, running: 1 });
    releases.shift()?.();
    await ended(held);
    expect((await list('status=running')).executions).toEqual([]);
  });

  it('replays an execution with its event, on the newest version or another', async () => {
    const id = await accept({ n: 2 });
    await ended(id);
    const replayed = await plane.call('POST', `/api/executions/${id}/replay`);
    expect(replayed).toMatchObject({ status: 202, body: { status: 'queued' } });
    const again = String(replayed.body.id);
    await ended(again);
    expect(await get(again)).toMatchObject({ trigger: 'replay', status: 'succeeded', input: '{"n":2}', version: 1 });
    const bad = await plane.call('POST', `/api/executions/${id}/replay`, { version: 9 });
    expect(bad).toMatchObject({ status: 400, body: { error: { details: { field: 'version' } } } });
    expect((await plane.call('POST', '/api/executions/01a21214-0c8d-71aa-bcbc-3101f0304482/replay')).status).toBe(404);
  });

  it('lists dead letters, sends them again and purges them', async () => {
    const id = await accept({ fail: true });
    await ended(id);
    const letters = (await plane.call('GET', '/api/dead-letters?function=f')).body.deadLetters;
    expect(letters).toMatchObject([{ id, condition: 'RetriesExhausted', attempts: 1 }]);
    expect((await plane.call('GET', `/api/dead-letters/${id}`)).body).toMatchObject({ payload: '{"fail":true}' });
    expect((await plane.call('POST', '/api/dead-letters/redrive', {})).status).toBe(400);
    const again = await plane.call('POST', `/api/dead-letters/${id}/redrive`);
    expect(again.status).toBe(202);
    await ended(String(again.body.id));
    expect((await plane.call('GET', `/api/dead-letters/${id}`)).status).toBe(404);
    expect(await plane.call('POST', '/api/dead-letters/purge', { function: 'f' })).toMatchObject({
      status: 200,
      body: { purged: 1 },
    });
  });

  it('changes the settings that are given, and leaves those that somebody else changes at the same moment', async () => {
    const path = '/api/functions/other/async';
    const before = {
      retries: 2,
      retryDelaysMs: [60_000, 120_000],
      maxAgeMs: 21_600_000,
      onSuccess: null,
      onFailure: null,
    };
    expect((await plane.call('GET', path)).body).toEqual(before);
    const after = {
      retries: 5,
      retryDelaysMs: [1],
      maxAgeMs: 1_000,
      onSuccess: { function: 'f' },
      onFailure: { function: 'other' },
    };
    const ageOf = async () => {
      const accepted = await plane.call('POST', '/api/functions/other/invocations?mode=async', { hold: true });
      const shown = (await get(String(accepted.body.id))) as Record<'acceptedAt' | 'expiresAt', string>;
      const idle = async () => {
        for (const release of releases.splice(0)) release();
        return (await plane.call('GET', '/api/queue')).body;
      };
      await expect.poll(idle).toMatchObject({ queued: 0, running: 0 });
      return Date.parse(shown.expiresAt) - Date.parse(shown.acceptedAt);
    };
    expect(await ageOf()).toBe(21_600_000);
    const changes = Object.entries(after).map(([field, value]) => plane.call('PATCH', path, { [field]: value }));
    for (const change of await Promise.all(changes)) expect(change.status).toBe(200);
    expect((await plane.call('GET', path)).body).toEqual(after);
    // Whoever keeps the function in memory is told.
    await expect.poll(ageOf).toBe(1_000);
    const back = await plane.call('PATCH', path, { onSuccess: null });
    expect(back).toEqual({ status: 200, body: { ...after, onSuccess: null } });
    expect((await plane.call('PATCH', path, {})).body).toEqual(back.body);
    expect((await plane.call('PATCH', '/api/functions/nobody/async', { retries: 1 })).status).toBe(404);
    expect((await plane.call('PATCH', path, { retries: 1, onFailure: { function: 'nobody' } })).status).toBe(400);
    expect((await plane.call('GET', path)).body).toEqual(back.body);
  });

  it.each<[string, string, unknown, number, string]>([
    ['POST', '/api/functions/f/invocations?mode=later', {}, 400, 'mode must be'],
    ['POST', '/api/functions/nobody/invocations?mode=async', {}, 404, 'No function is named'],
    ['POST', '/api/functions/f/invocations?mode=async', { text: 'x'.repeat(1024 * 1024) }, 413, 'too large'],
    ['GET', '/api/executions?status=nothing', undefined, 400, 'status must be one of queued, running'],
    ['GET', '/api/executions?status=queued&cursor=eA', undefined, 400, 'cursor'],
    ['GET', '/api/dead-letters?condition=Bad', undefined, 400, 'condition must be one of'],
    ['POST', '/api/executions/x/cancel', {}, 409, 'neither queued nor running'],
  ])('%s %s with %j: %i', async (method, path, body, status, message) => {
    const answer = await plane.call(method, path, body);
    expect(answer).toMatchObject({ status, body: { error: { message: expect.stringContaining(message) } } });
    expect((await plane.call('GET', '/api/queue')).body).toMatchObject({ queued: 0, running: 0 });
  });
});
