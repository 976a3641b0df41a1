import type { Capacity, ControlMessage, Hello } from '@lambda-fleet/proto';
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { ApiKeys } from '../auth/api-keys.js';
import { NodeSession } from '../nodes/node-session.js';
import { NodeStore } from '../nodes/node-store.js';
import { startTestControlPlane, type TestControlPlane } from './test-control-plane.js';

type Body = Record<string, unknown>;

const CAPACITY: Capacity = {
  ...{ memoryBytesTotal: 1e9, memoryBytesFree: 1e9, slotsTotal: 4, slotsFree: 4, sandboxesLeaked: 0 },
  versions: [{ versionId: 'v', idle: 2, busy: 1 }],
  blanks: [{ runtime: 'nodejs', isolation: 'runc', network: 'none', memoryMb: 0, count: 1 }],
};

const HELLO: Hello = {
  ...{ protocolMin: 1, protocolMax: 1, agentVersion: '1', bootId: 'b', labels: { zone: 'a' } },
  ...{ runtimes: [{ name: 'nodejs', digest: '' }], isolation: ['runc'], architecture: 'x64', networks: ['none'] },
  ...{ selfTest: [], builds: false, running: [], keptResults: [], capacity: CAPACITY },
};

describe('the nodes API', () => {
  let plane: TestControlPlane;
  let store: NodeStore;
  beforeAll(async () => {
    plane = await startTestControlPlane();
    store = new NodeStore(plane.postgres.database);
    const code = { source: 'export const handler = async () => 1;' };
    expect((await plane.call('POST', '/api/functions', { name: 'greet', code })).status).toBe(201);
  });
  afterAll(() => plane.close());
  afterEach(async () => {
    for (const id of ['a', 'b']) await plane.call('DELETE', `/api/nodes/${id}/drain`);
    for (const session of [...plane.registry.sessions()]) session.close('over');
    await plane.postgres.database.run('empty', (sql) => sql`truncate nodes cascade`);
  });

  async function connect(nodeId: string): Promise<ControlMessage[]> {
    const sent: ControlMessage[] = [];
    const session = new NodeSession(
      nodeId,
      HELLO,
      { write: (messages) => sent.push(...messages) > 0, end: () => {} },
      {
        ...{ onCapacity: () => {}, onUnclaimedResult: () => {}, onLogs: () => {} },
        ...{ onDrainProgress: () => {}, onLeaving: () => {}, onSelfTest: () => {} },
        onClosed: (closed) => plane.registry.remove(closed),
      },
      pino({ level: 'silent' }),
    );
    await store.recordHello(nodeId, HELLO);
    plane.registry.add(session);
    return sent;
  }

  const node = async (id: string): Promise<Body> => (await plane.call('GET', `/api/nodes/${id}`)).body;
  const drain = (id: string, body: Body = {}) =>
    plane.call('PUT', `/api/nodes/${id}/drain`, { deadlineMs: 60_000, ...body });

  it('cordons and uncordons, as often as it is asked, and shows what happened', async () => {
    await connect('a');
    for (let i = 0; i < 2; i += 1) {
      const cordoned = await plane.call('PUT', '/api/nodes/a/eligibility', { eligible: false });
      expect(cordoned).toMatchObject({ status: 200, body: { id: 'a', cordoned: true, eligible: false } });
    }
    expect(await node('a')).toMatchObject({
      ...{ connected: true, cordoned: true, leaving: false, drain: null, selfTest: null, labels: { zone: 'a' } },
      events: [{ kind: 'cordoned' }, { kind: 'connected', detail: { bootId: 'b' } }],
    });
    const back = await plane.call('PUT', '/api/nodes/a/eligibility', { eligible: true });
    expect(back.body).toMatchObject({ cordoned: false, eligible: true });
    const first = await plane.call('GET', '/api/nodes/a/events?limit=2');
    const second = await plane.call('GET', `/api/nodes/a/events?limit=2&cursor=${first.body.nextCursor}`);
    const kinds = [first, second].flatMap(({ body }) => (body.events as Body[]).map(({ kind }) => kind));
    expect(kinds).toEqual(['uncordoned', 'cordoned', 'connected']);
    expect(second.body.nextCursor).toBeNull();
    expect((await plane.call('GET', '/api/nodes')).body.nodes).toMatchObject([
      { id: 'a', cordoned: false, drain: null },
    ]);
  });

  it('drains and undrains', async () => {
    await Promise.all([connect('a'), connect('b')]);
    const started = await drain('a', { message: 'disk swap' });
    expect(started).toMatchObject({
      status: 200,
      body: {
        plan: { node: 'a', connected: true, inFlight: 1, idle: 2, blanks: 1, deadlineMs: 60_000, reasons: [] },
        node: { cordoned: true, drain: { state: 'draining', message: 'disk swap' } },
      },
    });
    expect((await plane.call('PUT', '/api/nodes/a/eligibility', { eligible: true })).body).toMatchObject({
      error: { code: 'conflict' },
    });
    expect(await plane.call('DELETE', '/api/nodes/a/drain')).toMatchObject({
      status: 200,
      body: { eligible: true, cordoned: false, drain: { state: 'cancelled' } },
    });
    await drain('a', { deadlineMs: null });
    const kept = await plane.call('DELETE', '/api/nodes/a/drain', { keepIneligible: true });
    expect(kept.body).toMatchObject({ cordoned: true, drain: { state: 'cancelled', deadlineAt: null } });
  });

  it('refuses a drain that would break something, says why and what overrides it, and changes nothing', async () => {
    const sent = await connect('a');
    const before = await node('a');
    const refused = await drain('a', { minEligible: 1 });
    expect(refused.status).toBe(409);
    expect(refused.body).toMatchObject({
      error: {
        code: 'drain_refused',
        details: {
          reasons: [
            { check: 'min-eligible', override: '--min-eligible' },
            { check: 'no-node', override: '--force' },
          ],
        },
      },
    });
    expect(await node('a')).toEqual(before);
    expect(sent.filter(({ message }) => message?.$case === 'drain')).toEqual([]);
    const dry = await drain('a', { dryRun: true });
    expect(dry.body).toMatchObject({ plan: { node: 'a', reasons: [{ check: 'no-node' }] } });
    expect(await node('a')).toEqual(before);
    expect(await drain('a', { force: true })).toMatchObject({ status: 200, body: { node: { cordoned: true } } });
  });

  it('counts none of the nodes that go alongside as one that is left', async () => {
    await Promise.all([connect('a'), connect('b')]);
    expect((await drain('a', { dryRun: true })).body).toMatchObject({ plan: { reasons: [] } });
    expect((await drain('a', { alongside: ['b'] })).status).toBe(409);
  });

  it.each([
    ['PUT', '/eligibility', { eligible: 'no' }],
    ['PUT', '/eligibility', {}],
    ['PUT', '/drain', { deadlineMs: -1 }],
    ['PUT', '/drain', { deadlineMs: 1e12 }],
    ['PUT', '/drain', {}],
    ['PUT', '/drain', { deadlineMs: null, dryrun: true }],
    ['PUT', '/drain', { deadlineMs: null, message: 'a\0b' }],
    ['PUT', '/drain', { deadlineMs: null, alongside: ['../b'] }],
    ['DELETE', '/drain', { keep: true }],
  ])('turns away %s %s with %j', async (method, path, body) => {
    await connect('a');
    expect(await plane.call(method, `/api/nodes/a${path}`, body)).toMatchObject({
      status: 400,
      body: { error: { code: 'invalid_request' } },
    });
    expect(await node('a')).toMatchObject({ cordoned: false, drain: null });
  });

  it("answers the same for nodes that are not there, are no names, or are another project's", async () => {
    await connect('a');
    const { database } = plane.postgres;
    await database.run('add project', (sql) => sql`insert into projects (project_id) values ('stranger')`);
    const stranger = await new ApiKeys(database).create('stranger', 'test');
    for (const [id, key] of [
      ['missing', plane.key],
      ['a%00b', plane.key],
      ['..%2f', plane.key],
      ['a', stranger],
    ] as const) {
      for (const [method, path, body] of [
        ['GET', '', undefined],
        ['GET', '/events', undefined],
        ['PUT', '/eligibility', { eligible: false }],
        ['PUT', '/drain', { deadlineMs: null, force: true }],
        ['DELETE', '/drain', {}],
      ] as const) {
        const answer = await fetch(`${plane.url}/api/nodes/${id}${path}`, {
          method,
          headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
          ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        });
        expect([answer.status, await answer.json()], `${method} ${id}${path}`).toMatchObject([
          404,
          { error: { code: 'node_not_found' } },
        ]);
      }
    }
    expect(await node('a')).toMatchObject({ cordoned: false, drain: null });
  });
});
