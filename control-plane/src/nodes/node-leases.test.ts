import { FleetError } from '@lambda-fleet/common/errors';
import type { ControlMessage } from '@lambda-fleet/proto';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { LeaseTable } from './lease-table.js';
import { LEASE_TIMINGS, NodeLeases } from './node-leases.js';
import { NodeRegistry } from './node-registry.js';
import { NodeSession } from './node-session.js';

const log = pino({ level: 'silent' });
const UNAVAILABLE = new FleetError('unavailable', 'The database is away.');

/** A replica whose database and nodes are the test's. */
function replica() {
  const database: { failure: Error | undefined; epoch: number; lost: string[] } = {
    failure: undefined,
    epoch: 7,
    lost: [],
  };
  const calls = { renewals: [] as string[][], declared: 0, onLost: [] as string[] };
  const table: Pick<LeaseTable, 'renew' | 'declareLost'> = {
    renew: async (heard) => {
      if (database.failure !== undefined) throw database.failure;
      calls.renewals.push(heard.map(({ id }) => id));
      return new Map(heard.map(({ id }) => [id, database.epoch]));
    },
    declareLost: async () => {
      calls.declared += 1;
      return database.lost;
    },
  };
  const registry = new NodeRegistry({ onRoom: () => {}, onGone: () => {} });
  const leases = new NodeLeases({
    ...{ registry, table: table as LeaseTable, timings: LEASE_TIMINGS, log },
    onLost: (ids) => calls.onLost.push(...ids),
  });
  const connect = (id: string, protocolMax = 2) => {
    const sent: ControlMessage[] = [];
    const session = new NodeSession(
      id,
      {
        ...{ protocolMin: 1, protocolMax, agentVersion: 'test', bootId: 'b', labels: {}, runtimes: [] },
        ...{ isolation: ['runc'], architecture: 'x64', networks: [], selfTest: [], builds: false },
        ...{ running: [], keptResults: [], capacity: undefined },
      },
      { write: (messages) => sent.push(...messages) > 0, end: () => {} },
      {
        onCapacity: () => {},
        onUnclaimedResult: () => {},
        onLogs: () => {},
        onDrainProgress: () => {},
        onLeaving: () => {},
        onSelfTest: () => {},
        onClosed: () => registry.remove(session),
      },
      log,
    );
    registry.add(session);
    const say = (sentMs: number): void => {
      const capacity = { memoryBytesTotal: 0, memoryBytesFree: 0, slotsTotal: 0, slotsFree: 0, sandboxesLeaked: 0 };
      const value = { ...capacity, versions: [], blanks: [], sentMs };
      session.receive({ message: { $case: 'capacity', value } });
    };
    const told = () => sent.flatMap(({ message }) => (message?.$case === 'lease' ? [message.value] : []));
    return { session, say, told };
  };
  const close = (): void => {
    leases.close();
    registry.close();
  };
  return { database, calls, leases, connect, close };
}

/** Lets so many seconds pass, in which these nodes report as they do. */
async function pass(seconds: number, ...nodes: { say(sentMs: number): void }[]): Promise<void> {
  for (let at = 0; at < seconds; at += 1) {
    for (const node of nodes) node.say(performance.now());
    await vi.advanceTimersByTimeAsync(1_000);
  }
}

describe('NodeLeases', () => {
  let current: ReturnType<typeof replica>;
  beforeEach(() => {
    vi.useFakeTimers({
      toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'setImmediate', 'performance'],
    });
    current = replica();
  });
  afterEach(() => {
    current.close();
    vi.useRealTimers();
  });

  it('renews those that it hears and no others, and tells them from when their lease counts', async () => {
    const [heard, silent] = [current.connect('heard'), current.connect('silent')];
    await pass(30, heard);
    expect(current.calls.renewals.at(-1)).toEqual(['heard']);
    const told = heard.told();
    expect(told.length).toBeGreaterThanOrEqual(5);
    expect(told.at(-1)).toMatchObject({ epoch: 7, validMs: 35_000 });
    // It was sent before the lease was written.
    expect(told.at(-1)?.heardMs).toBeLessThanOrEqual(performance.now());
    expect(silent.told().length).toBeLessThan(3);
  });

  it('tells a node at once when it has come back', async () => {
    const node = current.connect('node-1');
    current.leases.nodeKnown();
    await vi.advanceTimersByTimeAsync(300);
    expect(node.told()).toHaveLength(1);
  });

  it('does not tell an agent that knows no leases', async () => {
    const old = current.connect('old', 1);
    await pass(20, old);
    expect(current.calls.renewals.at(-1)).toEqual(['old']);
    expect(old.told()).toEqual([]);
  });

  it('goes on telling the epoch that it knows while the database is away', async () => {
    const node = current.connect('node-1');
    await pass(10, node);
    current.database.failure = UNAVAILABLE;
    const before = node.told().length;
    await pass(120, node);
    expect(node.told().length).toBeGreaterThan(before + 20);
    expect(node.told().at(-1)).toMatchObject({ epoch: 7 });
    const late = current.connect('late');
    await pass(10, node, late);
    expect(late.told().at(-1)).toMatchObject({ epoch: 0 });
  });

  it('tells nothing when a renewal fails though the database is there', async () => {
    const node = current.connect('node-1');
    current.database.failure = new Error('deadlock detected');
    await pass(60, node);
    expect(node.told()).toEqual([]);
  });

  it('declares nobody lost before it has renewed for a whole lease, from its start and after each failure', async () => {
    const node = current.connect('node-1');
    await pass(45, node);
    expect(current.calls.declared).toBe(0);
    await pass(10, node);
    expect(current.calls.declared).toBeGreaterThan(0);

    current.database.failure = UNAVAILABLE;
    await pass(6, node);
    current.database.failure = undefined;
    const before = current.calls.declared;
    await pass(45, node);
    expect(current.calls.declared).toBe(before);
    await pass(10, node);
    expect(current.calls.declared).toBeGreaterThan(before);
  });

  it('gives the whole grace again when it stood still itself', async () => {
    const node = current.connect('node-1');
    await pass(60, node);
    const before = current.calls.declared;
    // Timers do not fire while a process is stopped; time passes.
    const now = performance.now;
    vi.spyOn(performance, 'now').mockImplementation(() => now.call(performance) + 30_000);
    await pass(40, node);
    expect(current.calls.declared).toBe(before);
    await pass(15, node);
    expect(current.calls.declared).toBeGreaterThan(before);
    vi.restoreAllMocks();
  });

  it('closes the session of a node that is lost, and says so', async () => {
    const node = current.connect('node-1');
    current.database.lost = ['node-1'];
    await pass(60, node);
    expect(node.session.closed).toBe(true);
    expect(current.calls.onLost).toContain('node-1');
  });
});
