import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ExecutionRecord } from '../executions/execution-rows.js';
import { insertExecutions } from '../invocations/insert-executions.js';
import { startTestControlPlane, type TestControlPlane } from './test-control-plane.js';

const HOUR_MS = 3_600_000;
const code = { source: 'exports.handler = async () => 1;' };

describe('the execution routes', () => {
  let plane: TestControlPlane;
  beforeAll(async () => {
    plane = await startTestControlPlane();
    await plane.postgres.database.run('project', (sql) => sql`insert into projects (project_id) values ('other')`);
  });
  afterAll(() => plane.close());

  const record = async (hoursAgo: number, changes: Partial<ExecutionRecord> = {}): Promise<string> => {
    const startedAtMs = Date.now() - hoursAgo * HOUR_MS;
    const id = uuidv7({ msecs: startedAtMs });
    await insertExecutions(plane.postgres.database, [
      {
        ...{ id, projectId: 'default', functionId: uuidv7(), functionName: 'f', versionId: uuidv7(), versionNumber: 2 },
        ...{ trigger: 'api', epoch: 1, outcome: 'success', statusCode: undefined, error: undefined, nodeId: 'n1' },
        ...{ receipt: { runMs: 1.5 }, input: '{}', output: '1', keepPayloads: true },
        ...{ startedAtMs, finishedAtMs: startedAtMs + 2 },
        ...changes,
      },
    ]);
    return id;
  };
  const ids = async (query: string): Promise<unknown[]> => {
    const { body } = await plane.call('GET', `/api/executions?${query}`);
    return (body.executions as { id: string }[]).map(({ id }) => id);
  };

  it('lists by status, time, function and trigger, and shows what became of each', async () => {
    const old = await record(3, { outcome: 'timeout', trigger: 'http', attempts: 3, acceptedAtMs: 1_700_000_000_000 });
    const failed = await record(1, { outcome: 'function_error', functionName: 'g' });
    const recent = await record(0);
    expect(await ids('')).toEqual([recent, failed, old]);
    expect(await ids('since=2h')).toEqual([recent, failed]);
    expect(await ids(`since=${new Date(Date.now() - 4 * HOUR_MS).toISOString()}&until=30m`)).toEqual([failed, old]);
    expect(await ids('status=failed')).toEqual([failed]);
    expect(await ids('status=timed_out&trigger=http&function=f')).toEqual([old]);
    expect(await ids('outcome=timeout&status=failed')).toEqual([]);
    expect((await plane.call('GET', `/api/executions/${old}`)).body).toMatchObject({
      ...{ id: old, status: 'timed_out', outcome: 'timeout', attempts: 3, acceptedAt: '2023-11-14T22:13:20.000Z' },
      ...{ version: 2, input: '{}', output: '1' },
    });
    const first = await plane.call('GET', '/api/executions?limit=2');
    expect(await ids(`limit=2&cursor=${String(first.body.nextCursor)}`)).toEqual([old]);
  });

  it.each([
    ['status=success', 'status'],
    ['outcome=failed', 'outcome'],
    ['trigger=nobody', 'trigger'],
    ['since=yesterday', 'since'],
    ['until=never', 'until'],
    ['cursor=eA', 'cursor'],
    ['limit=0', 'limit'],
  ])('refuses %s and names the field', async (query, field) => {
    const { status, body } = await plane.call('GET', `/api/executions?${query}`);
    expect([status, body]).toMatchObject([400, { error: { code: 'invalid_request', details: { field } } }]);
  });

  it('knows no execution of another project, and shows none of it', async () => {
    const id = await record(0, { projectId: 'other' });
    for (const path of [`/api/executions/${id}`, `/api/executions/${id}/logs`]) {
      expect(await plane.call('GET', path)).toMatchObject({
        status: 404,
        body: { error: { code: 'execution_not_found' } },
      });
    }
    expect(await ids('limit=1000')).not.toContain(id);
  });

  it('lets a function keep no payloads, and again', async () => {
    const created = await plane.call('PUT', '/api/functions/private', { code, keepPayloads: false });
    expect(created.body).toMatchObject({ keepPayloads: false });
    expect(await plane.versions.resolve('default', 'private')).toMatchObject({ keepPayloads: false });
    const functionId = String(created.body.id);
    const none = await record(0, { functionId });
    expect((await plane.call('GET', `/api/executions/${none}`)).body).toMatchObject({ input: null, output: null });

    const changed = await plane.call('PATCH', '/api/functions/private', { keepPayloads: true });
    expect(changed.body).toMatchObject({ keepPayloads: true, version: 2 });
    expect(await plane.versions.resolve('default', 'private')).toMatchObject({ keepPayloads: true });
    const some = await record(0, { functionId });
    expect((await plane.call('GET', `/api/executions/${some}`)).body).toMatchObject({ input: '{}', output: '1' });

    expect((await plane.call('PUT', '/api/functions/plain', { code })).body).toMatchObject({ keepPayloads: true });
    const refused = await plane.call('PATCH', '/api/functions/plain', { keepPayloads: 'no' });
    expect(refused).toMatchObject({ status: 400, body: { error: { details: { field: 'keepPayloads' } } } });
  });
});
