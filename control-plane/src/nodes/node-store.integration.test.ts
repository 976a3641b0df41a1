import type { Hello } from '@lambda-fleet/proto';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startTestPostgres, type TestPostgres } from '../db/test-postgres.js';
import { NodeEventSweep } from './node-event-sweep.js';
import { NodeEvents } from './node-events.js';
import { NodeStore } from './node-store.js';

const hello = (agentVersion: string): Hello => ({
  protocolMin: 1,
  protocolMax: 1,
  agentVersion,
  bootId: 'b',
  labels: { zone: 'a' },
  runtimes: [{ name: 'nodejs', digest: 'sha256:1' }],
  isolation: ['runc'],
  architecture: 'x64',
  networks: ['none'],
  selfTest: [],
  builds: false,
  running: [],
  keptResults: [],
  capacity: undefined,
});

describe('NodeStore', () => {
  let postgres: TestPostgres;
  let store: NodeStore;
  let events: NodeEvents;
  beforeAll(async () => {
    postgres = await startTestPostgres();
    store = new NodeStore(postgres.database);
    events = new NodeEvents(postgres.database);
  });
  afterAll(() => postgres.close());

  it('records what a node says of itself, the last time counting', async () => {
    await store.recordHello('node-1', hello('1'));
    await store.recordHello('node-1', hello('2'));
    await store.recordHello('node-2', hello('1'));
    const nodes = await store.list();
    expect(nodes.map(({ id, agentVersion }) => [id, agentVersion])).toEqual([
      ['node-1', '2'],
      ['node-2', '1'],
    ]);
    expect(nodes[0]).toMatchObject({
      eligible: true,
      labels: { zone: 'a' },
      isolation: ['runc'],
      runtimes: [{ name: 'nodejs', digest: 'sha256:1' }],
      architecture: 'x64',
    });
  });

  it('keeps what an agent has tried, bounded, and says once in the events what failed', async () => {
    await store.recordHello('node-tried', hello('1'));
    const passed = { isolation: 'runc', check: 'start', passed: true, detail: '', ms: 400 };
    const failed = { isolation: 'gvisor', check: 'memory-limit', passed: false, detail: 'x'.repeat(9_000), ms: 70 };
    const many = Array.from({ length: 200 }, () => failed);
    await store.recordSelfTest('node-tried', [passed]);
    for (let n = 0; n < 2; n += 1) await store.recordSelfTest('node-tried', [passed, failed]);
    expect((await store.get('default', 'node-tried')).selfTest).toEqual([
      passed,
      { ...failed, detail: 'x'.repeat(500) },
    ]);
    const history = await events.list('default', 'node-tried', { limit: 10 });
    expect(history.map(({ kind, detail }) => [kind, detail.failed])).toEqual([
      ['self-test-failed', 'gvisor: memory-limit'],
      ['connected', undefined],
    ]);
    await store.recordSelfTest('node-tried', many);
    expect((await store.get('default', 'node-tried')).selfTest).toHaveLength(64);
    await store.recordSelfTest('node-unknown', [failed]);
  });

  it('keeps a cordon whatever the node says, and records it once', async () => {
    await store.setEligible('default', 'node-2', false);
    await store.setEligible('default', 'node-2', false);
    await store.recordHello('node-2', hello('3'));
    expect(await store.get('default', 'node-2')).toMatchObject({ eligible: false, agentVersion: '3', drain: null });
    const kinds = (await events.list('default', 'node-2', { limit: 10 })).map(({ kind }) => kind);
    expect(kinds).toEqual(['connected', 'cordoned', 'connected']);
    await store.setEligible('default', 'node-2', true);
    expect(await store.get('default', 'node-2')).toMatchObject({ eligible: true });
  });

  it("shows and changes no other project's nodes", async () => {
    await expect(store.get('other', 'node-1')).rejects.toMatchObject({ code: 'node_not_found' });
    await expect(store.setEligible('other', 'node-1', false)).rejects.toMatchObject({ code: 'node_not_found' });
    expect(await store.get('default', 'node-1')).toMatchObject({ eligible: true });
  });

  it('keeps the self-test that a node reported', async () => {
    const check = { isolation: 'runc', check: 'start', passed: false, detail: 'no engine', ms: 3 };
    await store.recordHello('node-1', { ...hello('2'), selfTest: [check] });
    expect(await store.get('default', 'node-1')).toMatchObject({ selfTest: [check] });
  });

  it('keeps the newest events of each node', async () => {
    for (let i = 0; i < 12; i += 1) await events.record('node-1', 'leaving', { boundMs: i });
    const before = (await events.list('default', 'node-2', { limit: 100 })).length;
    const sweep = new NodeEventSweep(postgres.database, 10, pino({ level: 'silent' }));
    await sweep.run();
    sweep.close();
    const kept = await events.list('default', 'node-1', { limit: 100 });
    expect(kept.map(({ detail }) => detail.boundMs)).toEqual([11, 10, 9, 8, 7, 6, 5, 4, 3, 2]);
    expect(await events.list('default', 'node-2', { limit: 100 })).toHaveLength(before);
  });
});
