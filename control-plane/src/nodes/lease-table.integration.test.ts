import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { startTestPostgres, type TestPostgres } from '../db/test-postgres.js';
import { LeaseTable } from './lease-table.js';

const LEASE_MS = 45_000;
const FRESH_MS = 2_500;

describe('leases of nodes', () => {
  let postgres: TestPostgres;
  let table: LeaseTable;
  beforeAll(async () => {
    postgres = await startTestPostgres();
    table = new LeaseTable(postgres.database);
  });
  afterAll(() => postgres.close());
  beforeEach(async () => {
    await postgres.database.run('empty', (sql) => sql`delete from nodes`);
    await postgres.database.run(
      'nodes',
      (sql) => sql`
        insert into nodes (id, project_id, labels, isolation, runtimes, architecture, agent_version, last_seen_at)
        select 'node-' || i, 'default', '{}', '[]', '[]', 'x64', '1', '2020-01-01' from generate_series(1, 3) i`,
    );
  });

  const renew = (bootId: string, ...ids: string[]) =>
    table.renew(
      ids.map((id) => ({ id, bootId, fences: true })),
      LEASE_MS,
      FRESH_MS,
    );
  const row = async (id: string) => {
    const [found] = await postgres.database.run(
      'node',
      (sql) => sql<{ epoch: number; leftMs: number | null; lost: boolean; seenAt: Date }[]>`
        select lease_epoch as epoch, extract(epoch from lease_expires_at - now())::double precision * 1000 as left_ms,
          lost_at is not null as lost, last_seen_at as seen_at
        from nodes where id = ${id}`,
    );
    return found;
  };
  const pass = (ms: number) =>
    postgres.database.run(
      'pass',
      (sql) => sql`update nodes set lease_expires_at = lease_expires_at - ${ms} * interval '1 millisecond'`,
    );

  it('begins the first lease of a node with epoch 1, and renews it under the same epoch', async () => {
    expect(await renew('boot-1', 'node-1', 'unknown')).toEqual(new Map([['node-1', 1]]));
    await pass(20_000);
    expect(await renew('boot-1', 'node-1')).toEqual(new Map([['node-1', 1]]));
    const renewed = await row('node-1');
    expect(renewed?.leftMs).toBeGreaterThan(LEASE_MS - 10_000);
    expect(renewed?.seenAt.getUTCFullYear()).toBeGreaterThan(2020);
    expect((await row('node-2'))?.leftMs).toBeNull();
    expect((await row('node-2'))?.seenAt.getUTCFullYear()).toBe(2020);
  });

  it('begins the next epoch with a new start of the agent, however long the old lease had to go', async () => {
    await renew('boot-1', 'node-1');
    expect(await renew('boot-2', 'node-1')).toEqual(new Map([['node-1', 2]]));
  });

  it('gives none to an agent that would not end its work when it is over, and takes that of its node', async () => {
    await renew('boot-1', 'node-1');
    for (let round = 0; round < 3; round += 1)
      await table.renew([{ id: 'node-1', bootId: 'older', fences: false }], LEASE_MS, FRESH_MS);
    await pass(3_600_000);
    expect(await table.declareLost()).toEqual([]);
    expect(await row('node-1')).toMatchObject({ epoch: 1, leftMs: null, lost: false });
    expect((await row('node-1'))?.seenAt.getUTCFullYear()).toBeGreaterThan(2020);
  });

  it('goes on under the same epoch when nobody has declared the node lost meanwhile', async () => {
    await renew('boot-1', 'node-1');
    await pass(3_600_000);
    expect(await renew('boot-1', 'node-1')).toEqual(new Map([['node-1', 1]]));
  });

  it('declares lost exactly those whose lease is over, once, with an event, and begins the next epoch afterwards', async () => {
    await renew('boot-1', 'node-1', 'node-2');
    await pass(LEASE_MS + 1_000);
    await renew('boot-1', 'node-2');
    // node-3 never had a lease.
    expect(await table.declareLost()).toEqual(['node-1']);
    expect(await table.declareLost()).toEqual([]);
    expect([(await row('node-1'))?.lost, (await row('node-2'))?.lost]).toEqual([true, false]);
    const events = await postgres.database.run(
      'events',
      (sql) => sql`select node_id, kind, detail ->> 'leaseEpoch' as epoch from node_events`,
    );
    expect(events).toMatchObject([{ nodeId: 'node-1', kind: 'lost', epoch: '1' }]);
    expect(await renew('boot-1', 'node-1')).toEqual(new Map([['node-1', 2]]));
    expect((await row('node-1'))?.lost).toBe(false);
  });

  it('is renewed by many replicas at once, in any order, without one of them failing', async () => {
    const nodes = ['node-1', 'node-2', 'node-3'];
    const rounds = Array.from({ length: 60 }, (_, i) => {
      const replica = Math.floor(i / 2);
      const order = i % 2 === 0 ? nodes : [...nodes].reverse();
      return replica % 5 === 4 ? table.declareLost() : renew(`boot-${replica % 3}`, ...order);
    });
    await Promise.all(rounds);
    expect((await row('node-1'))?.lost).toBe(false);
  });
});
