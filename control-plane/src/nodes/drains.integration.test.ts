import { randomUUID } from 'node:crypto';
import type { ControlMessage, Drain, DrainProgress, Hello } from '@lambda-fleet/proto';
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { NotificationListener } from '../db/notification-listener.js';
import { startTestPostgres, type TestPostgres } from '../db/test-postgres.js';
import { DrainReports } from './drain-reports.js';
import { DrainTable } from './drain-table.js';
import { DrainTeller } from './drain-teller.js';
import { LostDrains } from './lost-drains.js';
import { NodeDecisions } from './node-decisions.js';
import { NodeEvents } from './node-events.js';
import { NodeRegistry } from './node-registry.js';
import { NodeSession } from './node-session.js';
import { NodeStore } from './node-store.js';

const log = pino({ level: 'silent' });

const HELLO: Hello = {
  protocolMin: 1,
  protocolMax: 1,
  agentVersion: '1',
  bootId: 'b',
  labels: {},
  runtimes: [{ name: 'nodejs', digest: '' }],
  isolation: ['runc'],
  architecture: 'x64',
  networks: ['none'],
  selfTest: [],
  builds: false,
  running: [],
  keptResults: [],
  capacity: undefined,
};

const progressOf = (drainId: string, given: Partial<DrainProgress> = {}): DrainProgress => ({
  ...{ drainId, inFlight: 2, sandboxes: 3, inFlightMs: 1_000, deadlineReached: false, killed: 0, complete: false },
  ...given,
});

let postgres: TestPostgres;
beforeAll(async () => {
  postgres = await startTestPostgres();
});
afterAll(() => postgres.close());

const closers: (() => void | Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

/** One control plane's part of it, on the database that all share. */
class Replica {
  readonly registry = new NodeRegistry({ onRoom: () => {}, onGone: () => {} });
  readonly decisions: NodeDecisions;
  readonly teller: DrainTeller;
  readonly reports: DrainReports;

  constructor({ notices, pollMs = 60_000 }: { notices: boolean; pollMs?: number }) {
    const { database } = postgres;
    this.decisions = new NodeDecisions({
      ...{ database, registry: this.registry, log, pollMs },
      onChanged: () => this.teller.tellAll(),
    });
    this.teller = new DrainTeller(this.decisions, this.registry);
    this.reports = new DrainReports({ table: new DrainTable(database), decisions: this.decisions, log });
    closers.push(() => this.decisions.close());
    closers.push(() => this.registry.close());
    if (!notices) return;
    const listener = new NotificationListener(database, log);
    listener.on('nodes', () => void this.decisions.look());
    listener.onRestored(() => void this.decisions.look());
    listener.start();
    closers.push(() => listener.close());
  }

  connect(nodeId: string): { session: NodeSession; drains: Drain[] } {
    const drains: Drain[] = [];
    const write = (messages: ControlMessage[]): boolean => {
      for (const { message } of messages) if (message?.$case === 'drain') drains.push(message.value);
      return true;
    };
    const session = new NodeSession(
      nodeId,
      HELLO,
      { write, end: () => {} },
      {
        onCapacity: () => {},
        onUnclaimedResult: () => {},
        onDrainProgress: (from, progress) => void this.reports.receive(from, progress),
        onLeaving: () => {},
        onSelfTest: () => {},
        onLogs: () => {},
        onClosed: (closed) => this.registry.remove(closed),
      },
      log,
    );
    this.registry.add(session);
    this.teller.tell(session);
    return { session, drains };
  }

  takes(nodeId: string): boolean {
    const session = this.registry.session(nodeId);
    return session !== undefined && this.registry.isEligible(session);
  }
}

describe('what operators decide about nodes', () => {
  let store: NodeStore;
  let table: DrainTable;
  let events: NodeEvents;
  let node = '';
  beforeEach(async () => {
    store = new NodeStore(postgres.database);
    table = new DrainTable(postgres.database);
    events = new NodeEvents(postgres.database);
    node = `node-${randomUUID()}`;
    await store.recordHello(node, HELLO);
  });

  const start = (deadlineMs: number | null = 60_000): Promise<void> =>
    table.start('default', node, { deadlineMs, message: 'disk swap', forced: false });
  const drainOf = async () => (await store.get('default', node)).drain;
  const kinds = async () => (await events.list('default', node, { limit: 50 })).map(({ kind }) => kind);

  it('a cordon reaches every replica by notice, and by the poll where notices are lost', async () => {
    const heard = new Replica({ notices: true });
    const polled = new Replica({ notices: false, pollMs: 50 });
    for (const replica of [heard, polled]) replica.connect(node);
    for (const replica of [heard, polled]) await replica.decisions.look();
    expect([heard.takes(node), polled.takes(node)]).toEqual([true, true]);
    await store.setEligible('default', node, false);
    await expect.poll(() => heard.takes(node), { timeout: 5_000, interval: 10 }).toBe(false);
    await expect.poll(() => polled.takes(node), { timeout: 5_000, interval: 10 }).toBe(false);
    await store.setEligible('default', node, true);
    await expect.poll(() => heard.takes(node), { timeout: 5_000, interval: 10 }).toBe(true);
    await expect.poll(() => polled.takes(node), { timeout: 5_000, interval: 10 }).toBe(true);
  });

  it('a replica that starts knows a cordon before its first agent, and the Hello of that agent does not clear it', async () => {
    await store.setEligible('default', node, false);
    const replica = new Replica({ notices: false });
    await replica.decisions.look();
    replica.connect(node);
    expect(replica.takes(node)).toBe(false);
    await store.recordHello(node, HELLO);
    await replica.decisions.look();
    expect(replica.takes(node)).toBe(false);
  });

  it('a drain is told to the session that is there and to every later one, until it is complete on the word of the agent', async () => {
    const replica = new Replica({ notices: false });
    const first = replica.connect(node);
    await start();
    await replica.decisions.look();
    await expect.poll(() => first.drains.length).toBe(1);
    const drain = await drainOf();
    expect(first.drains[0]).toMatchObject({ drainId: drain?.id, cancelled: false });
    expect(replica.takes(node)).toBe(false);
    const second = replica.connect(node);
    await expect.poll(() => second.drains.map(({ drainId }) => drainId)).toEqual([drain?.id]);
    expect(second.drains[0]?.deadlineMs).toBeLessThanOrEqual(60_000);

    await replica.reports.receive(second.session, progressOf(drain?.id ?? ''));
    expect(await drainOf()).toMatchObject({
      state: 'draining',
      progress: { inFlight: 2, sandboxes: 3, inFlightMs: 1_000 },
    });
    await table.requeued(node);
    const end = { inFlight: 0, sandboxes: 0, inFlightMs: 0, deadlineReached: true, killed: 2, complete: true };
    await replica.reports.receive(second.session, progressOf(drain?.id ?? '', end));
    expect(await store.get('default', node)).toMatchObject({
      eligible: false,
      drain: { state: 'complete', message: 'disk swap', result: { deadlineReached: true, killed: 2, requeued: 1 } },
    });
    expect(await kinds()).toEqual(['drain-completed', 'drain-progress', 'drain-started', 'connected']);

    // Undrained: the agent that stayed empty hears of it.
    await replica.decisions.look();
    await table.cancel('default', node, false);
    await replica.decisions.look();
    await expect.poll(() => second.drains.at(-1)).toMatchObject({ drainId: drain?.id, cancelled: true });
    expect(replica.takes(node)).toBe(true);
  });

  it('a drain of a node that drains keeps its id and start, and its agent hears of the new deadline', async () => {
    const replica = new Replica({ notices: false });
    const { drains } = replica.connect(node);
    await start(600_000);
    await replica.decisions.look();
    const before = await drainOf();
    await start(null);
    await replica.decisions.look();
    const after = await drainOf();
    expect(after).toMatchObject({ id: before?.id, startedAt: before?.startedAt, deadlineAt: null, state: 'draining' });
    await expect.poll(() => drains.map(({ deadlineMs }) => deadlineMs !== undefined)).toEqual([true, false]);
  });

  it('a node that drains cannot be set eligible, and an undrained one is what was asked for', async () => {
    await start();
    await expect(store.setEligible('default', node, true)).rejects.toMatchObject({ code: 'conflict' });
    expect(await store.get('default', node)).toMatchObject({ eligible: false, drain: { state: 'draining' } });
    await table.cancel('default', node, true);
    expect(await store.get('default', node)).toMatchObject({ eligible: false, drain: { state: 'cancelled' } });
    await table.cancel('default', node, false);
    expect(await store.get('default', node)).toMatchObject({ eligible: true, drain: { state: 'cancelled' } });
  });

  it('progress of another drain, of a node that does not drain, or with impossible counts changes nothing', async () => {
    const replica = new Replica({ notices: false });
    const { session, drains } = replica.connect(node);
    await start();
    await replica.decisions.look();
    const id = (await drainOf())?.id ?? '';
    const before = await store.get('default', node);
    const complete = { complete: true, inFlight: 0, sandboxes: 0 };
    const old = randomUUID();
    for (const report of [
      progressOf(old, complete),
      progressOf('not-an-id', complete),
      progressOf(id, { ...complete, killed: 4_000_000_000 }),
      progressOf(id, { ...complete, inFlightMs: Number.MAX_SAFE_INTEGER }),
    ])
      await replica.reports.receive(session, report);
    expect(await store.get('default', node)).toEqual(before);
    // Whoever believes in an old drain is told that it is over.
    await expect.poll(() => drains.filter(({ cancelled }) => cancelled).map(({ drainId }) => drainId)).toEqual([old]);

    const other = `node-${randomUUID()}`;
    await store.recordHello(other, HELLO);
    await replica.reports.receive(replica.connect(other).session, progressOf(id, complete));
    expect(await store.get('default', other)).toMatchObject({ eligible: true, drain: null });
    expect(await drainOf()).toMatchObject({ id, state: 'draining' });
    expect(await table.complete(node, { ...progressOf(old), drainId: old })).toBe(false);
  });

  it('an agent that floods with reports keeps nobody busy', async () => {
    const replica = new Replica({ notices: false });
    const { session } = replica.connect(node);
    await start();
    await replica.decisions.look();
    let looks = 0;
    const decisions = {
      of: (nodeId: string) => replica.decisions.of(nodeId),
      look: () => {
        looks += 1;
        return replica.decisions.look();
      },
    };
    const reports = new DrainReports({ table, decisions, log });
    const id = (await drainOf())?.id ?? '';
    for (let i = 0; i < 300; i += 1) {
      await reports.receive(session, progressOf(randomUUID()));
      await reports.receive(session, progressOf(id, { deadlineReached: i % 2 === 0, inFlight: i % 3 }));
    }
    // It took some seconds at the most.
    expect(looks).toBeLessThan(30);
    expect((await kinds()).filter((kind) => kind === 'drain-progress').length).toBeLessThan(50);
  });

  it('a node that went away while it drained is lost, once, and not while it is connected or the database was away', async () => {
    const replica = new Replica({ notices: false });
    const { session } = replica.connect(node);
    await start();
    await postgres.database.run(
      'age',
      (sql) =>
        sql`update nodes set last_seen_at = now() - interval '1 hour', drain_started_at = now() - interval '1 hour'`,
    );
    const options = { table, registry: replica.registry, log, lostMs: 100, lookMs: 600_000 };
    const watch = new LostDrains({ ...options, database: { away: false } });
    const blind = new LostDrains({ ...options, database: { away: true } });
    closers.push(() => watch.close());
    closers.push(() => blind.close());
    const stateAfterLook = async (by: LostDrains) => {
      await by.look();
      return (await drainOf())?.state;
    };
    // Its first look begins the time for which the database has to have answered.
    expect(await stateAfterLook(watch)).toBe('draining');
    await new Promise((resolve) => setTimeout(resolve, 150));
    expect(await stateAfterLook(watch)).toBe('draining');
    session.close('gone');
    expect(await stateAfterLook(blind)).toBe('draining');
    expect(await stateAfterLook(watch)).toBe('lost');
    await watch.look();
    expect((await kinds()).filter((kind) => kind === 'drain-lost')).toHaveLength(1);
    expect(await store.get('default', node)).toMatchObject({ eligible: false });
  });
});
