import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type Replica, Replicas } from '../test-support/replicas.js';
import { type NodeEvent, ScriptedAgent } from '../test-support/scripted-agent.js';
import { TcpProxy } from '../test-support/tcp-proxy.js';

/** As in production, but five times as fast. */
const LEASE = { leaseMs: 9_000, validMs: 6_000, renewMs: 1_000 };

/** Two replicas and two nodes; whatever is between them can be cut. */
describe('leases of nodes', { timeout: 300_000 }, () => {
  let replicas: Replicas;
  let events: NodeEvent[];
  const agents: ScriptedAgent[] = [];
  const networks: TcpProxy[] = [];

  beforeAll(async () => {
    replicas = await Replicas.open();
    for (let i = 0; i < 2; i += 1) await replicas.startHere({ nodeLease: LEASE });
    const deployer = await agentOf('deployer');
    await replicas.deploy(one(), 'echo');
    await deployer.close();
    agents.length = 0;
  });
  afterAll(() => replicas?.close());
  beforeEach(() => {
    events = [];
  });
  afterEach(async () => {
    for (const network of networks) network.thaw();
    for (const agent of agents.splice(0)) await agent.close();
    for (const network of networks.splice(0)) await network.close();
    for (const table of ['node_events', 'executions', 'nodes'] as const) {
      await replicas.postgres.database.run('empty', (sql) => sql`delete from ${sql(table)}`);
    }
  });

  const one = (at = 0): Replica => {
    const replica = replicas.all[at];
    if (replica === undefined) throw new Error('no such replica');
    return replica;
  };
  /** An agent that reaches both replicas over a network of its own. */
  const agentOf = async (id: string, more: { leaseClockMs?: () => number } = {}): Promise<ScriptedAgent> => {
    const own = await Promise.all(replicas.all.map(({ grpcPort }) => TcpProxy.to(grpcPort)));
    networks.push(...own);
    const agent = new ScriptedAgent({
      ...{ id, events, tls: await replicas.agentCredentials(id), links: more },
      addresses: own.map(({ port }) => `localhost:${port}`),
    });
    agents.push(agent);
    await agent.linkedTo(replicas.all.length);
    await expectSoon(async () => (await lease(id)) !== undefined);
    return agent;
  };
  const lease = async (id: string) => {
    const [row] = await replicas.postgres.database.run(
      'lease',
      (sql) => sql<{ epoch: number; leftMs: number; lost: boolean }[]>`
        select lease_epoch as epoch, extract(epoch from lease_expires_at - now())::double precision * 1000 as left_ms,
          lost_at is not null as lost
        from nodes where id = ${id} and lease_expires_at is not null`,
    );
    return row;
  };
  const lostEvents = () =>
    replicas.postgres.database.run(
      'events',
      (sql) => sql<{ nodeId: string }[]>`select node_id from node_events where kind = 'lost'`,
    );
  /** Queues an invocation that is held where it runs, and waits until it does. */
  const holdOne = async (agent: ScriptedAgent): Promise<string> => {
    const answer = await replicas.api(one(), 'POST', '/api/functions/echo/invocations?mode=async', { hold: true });
    expect(answer.status).toBe(202);
    const { id } = answer.json<{ id: string }>();
    await expectSoon(() => agent.runner.running().some(({ invocationId }) => invocationId === id));
    return id;
  };
  const told = (id: string) =>
    events.filter(({ invocationId }) => invocationId === id).map(({ node, what, epoch }) => `${node} ${what} ${epoch}`);

  it('renews the lease of a node, under one epoch, whichever replica hears it', async () => {
    const agent = await agentOf('node-1');
    networks[0]?.freeze();
    // Longer than a lease, by the other replica alone.
    const until = Date.now() + LEASE.leaseMs + 2_000;
    while (Date.now() < until) {
      expect(agent.links.lease.over).toBe(false);
      expect(await lease('node-1')).toMatchObject({ epoch: 1, lost: false });
      await sleep(200);
    }
  });

  it('runs nothing again when a node is cut off for less than the fence', async () => {
    const agent = await agentOf('node-1');
    const id = await holdOne(agent);
    for (const network of networks) network.freeze();
    await expectSoon(async () => ((await lease('node-1'))?.leftMs ?? 0) < LEASE.leaseMs - 3_000);
    for (const network of networks) network.thaw();
    await expectSoon(async () => ((await lease('node-1'))?.leftMs ?? 0) > LEASE.leaseMs - 2_000);
    agent.runner.finishAll();
    await expectSoon(async () => (await replicas.executions()).length === 1);
    expect(await replicas.executions()).toMatchObject([{ id, outcome: 'success', epoch: 1, nodeId: 'node-1' }]);
    expect(told(id)).toEqual(['node-1 began 1', 'node-1 ended 1']);
    expect(await lostEvents()).toEqual([]);
  });

  it('runs work of a node that is cut off for longer again once, after the node has ended it', async () => {
    const first = await agentOf('node-1');
    const id = await holdOne(first);
    const cut = [...networks];
    const second = await agentOf('node-2');
    for (const network of cut) network.freeze();
    await expectSoon(() => second.runner.held.size === 1, 150_000);
    expect(told(id)).toEqual(['node-1 began 1', 'node-1 cancelled 1', 'node-1 ended 1', 'node-2 began 2']);
    expect(await lostEvents()).toEqual([{ nodeId: 'node-1' }]);
    second.runner.finishAll();
    await expectSoon(async () => (await replicas.executions()).length === 1);

    // What it kept is acknowledged when it is back, and changes nothing; it takes work again under the next epoch.
    for (const network of cut) network.thaw();
    await expectSoon(async () => (await lease('node-1'))?.epoch === 2);
    await expectSoon(() => first.links.results.size === 0 && !first.links.lease.over);
    expect(await replicas.executions()).toMatchObject([{ id, outcome: 'success', epoch: 2, nodeId: 'node-2' }]);
    expect(told(id).at(-1)).toBe('node-2 ended 2');
  });

  it('keeps the late result of a zombie apart, and ends what it still runs when it is back', async () => {
    // Its clock stands still too, so it never finds out.
    const zombie = await agentOf('node-1', { leaseClockMs: () => 1_000 });
    const [finished, running] = [await holdOne(zombie), await holdOne(zombie)];
    const cut = [...networks];
    const second = await agentOf('node-2');
    for (const network of cut) network.freeze();
    await expectSoon(() => second.runner.held.size === 2, 150_000);
    zombie.runner.finish({ invocationId: finished, epoch: 1 });
    second.runner.finish({ invocationId: finished, epoch: 2 });
    await expectSoon(async () => (await replicas.executions()).length === 1);
    for (const network of cut) network.thaw();
    await expectSoon(() => zombie.links.results.size === 0 && zombie.runner.held.size === 0);
    expect(await replicas.executions()).toMatchObject([{ id: finished, epoch: 2, nodeId: 'node-2' }]);
    expect(told(finished)).toEqual(['node-1 began 1', 'node-2 began 2', 'node-1 ended 1', 'node-2 ended 2']);
    // Its second attempt runs, and the first is ended because of it.
    expect(told(running)).toEqual(['node-1 began 1', 'node-2 began 2', 'node-1 cancelled 1', 'node-1 ended 1']);
    second.runner.finishAll();
    await expectSoon(async () => (await replicas.executions()).length === 2);
    expect((await replicas.executions()).map(({ epoch }) => epoch)).toEqual([2, 2]);
  });

  it('fences nobody and runs nothing again while the database is away for longer than a lease', async () => {
    const agent = await agentOf('node-1');
    const id = await holdOne(agent);
    await replicas.postgres.restart(async () => {
      const until = Date.now() + LEASE.leaseMs + 4_000;
      while (Date.now() < until) {
        expect(agent.links.lease.over).toBe(false);
        await sleep(100);
      }
    });
    await expectSoon(async () => ((await lease('node-1'))?.leftMs ?? 0) > 0);
    // Long enough for a replica that forgets the grace to declare it lost.
    await sleep(3 * LEASE.renewMs);
    agent.runner.finishAll();
    await expectSoon(async () => (await replicas.executions()).length === 1);
    expect(await replicas.executions()).toMatchObject([{ id, outcome: 'success', epoch: 1, nodeId: 'node-1' }]);
    expect(told(id)).toEqual(['node-1 began 1', 'node-1 ended 1']);
    expect(await lostEvents()).toEqual([]);
    expect((await lease('node-1'))?.epoch).toBe(1);
  });
});

async function expectSoon(holds: () => boolean | Promise<boolean>, ms = 60_000): Promise<void> {
  const giveUpAt = Date.now() + ms;
  for (;;) {
    const held = await Promise.resolve(holds()).catch(() => false);
    if (held) return;
    if (Date.now() > giveUpAt) throw new Error(`not within ${ms} ms: ${holds}`);
    await sleep(20);
  }
}
