import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ApiKeys } from '../../control-plane/src/auth/api-keys.js';
import { type Replica, Replicas } from '../test-support/replicas.js';
import { type NodeEvent, ScriptedAgent } from '../test-support/scripted-agent.js';
import { type HttpAnswer, httpCall } from './fleet/http-call.js';

/** Three control planes, each a process of its own, and one agent that is linked to all of them. */
describe('an agent of three replicas', { timeout: 240_000 }, () => {
  let replicas: Replicas;
  let agent: ScriptedAgent;
  const events: NodeEvent[] = [];

  beforeAll(async () => {
    replicas = await Replicas.open();
    for (let i = 0; i < 3; i += 1) await replicas.startProcess();
    agent = new ScriptedAgent({
      id: 'node-1',
      addresses: replicas.all.map(({ grpcPort }) => `localhost:${grpcPort}`),
      tls: await replicas.agentCredentials('node-1'),
      events,
    });
    await agent.linkedTo(3);
    await replicas.deploy(one(), 'echo');
  });
  afterAll(async () => {
    await agent?.close();
    await replicas?.close();
  });

  const one = (at = 0): Replica => {
    const replica = replicas.all[at];
    if (replica === undefined) throw new Error('no such replica');
    return replica;
  };
  const invoke = (replica: Replica, body: object, mode = 'sync'): Promise<HttpAnswer> =>
    replicas.api(replica, 'POST', `/api/functions/echo/invocations?mode=${mode}`, body);
  /** The id of the invocation that the node holds with this mark. */
  const heldWith = async (mark: string): Promise<{ invocationId: string; epoch: number }> => {
    const find = () =>
      [...agent.runner.held.values()].find(({ invocation }) => invocation.payload.toString().includes(`"${mark}"`));
    await expect.poll(find, { timeout: 40_000 }).toBeDefined();
    const { invocationId = '', epoch = 0 } = find()?.invocation.invoke ?? {};
    return { invocationId, epoch };
  };

  it('takes calls of each, whose answers and log lines go to the one that sent them', async () => {
    for (const replica of replicas.all) {
      const answer = await invoke(replica, { port: replica.httpPort });
      expect([answer.status, answer.text]).toEqual([200, `{"port":${replica.httpPort}}`]);
    }
    await expect.poll(async () => (await replicas.executions()).length, { timeout: 40_000 }).toBe(3);
    await expect.poll(() => agent.links.results.size).toBe(0);
    await expect.poll(() => agent.links.logBudget.used).toBe(0);
  });

  it('loses with a replica nothing but its callers, and each result is committed once, by another', async () => {
    const [victim, second, third] = [one(0), one(1), one(2)];
    const before = (await replicas.executions()).length;
    // A caller of the victim, one of another replica, and an async invocation that the victim claimed or another did.
    const cut = invoke(victim, { hold: 'victim' }).catch(() => 'cut' as const);
    const untouched = invoke(second, { hold: 'second' });
    const queued = (await invoke(victim, { hold: 'queued' }, 'async')).json<{ id: string }>();
    const held = [await heldWith('victim'), await heldWith('second'), await heldWith('queued')] as const;

    await victim.stop();
    expect(await cut).toBe('cut');
    await agent.linkedTo(2);
    for (const ref of held) agent.runner.finish(ref);

    expect((await untouched).text).toBe('{"hold":"second"}');
    await expect.poll(async () => (await replicas.executions()).length, { timeout: 40_000 }).toBe(before + 3);
    const recorded = new Map((await replicas.executions()).map((execution) => [execution.id, execution]));
    for (const { invocationId, epoch } of held) {
      expect(recorded.get(invocationId)).toMatchObject({ outcome: 'success', epoch, nodeId: 'node-1' });
    }
    expect(recorded.has(queued.id)).toBe(true);
    // Everything is acknowledged, and nothing ran twice.
    await expect.poll(() => agent.links.results.size, { timeout: 40_000 }).toBe(0);
    await expect.poll(() => agent.links.logBudget.used, { timeout: 40_000 }).toBe(0);
    for (const { invocationId } of held) {
      const begun = events.filter((event) => event.what === 'began' && event.invocationId === invocationId);
      expect(begun).toHaveLength(1);
    }
    const lines = (await replicas.api(third, 'GET', '/api/functions/echo/logs?limit=100')).json<{ logs: unknown[] }>();
    expect(lines.logs).toHaveLength(before + 3);
  });

  it('stops an async invocation that another replica runs, when it is cancelled', async () => {
    // No agent knows of it, so it runs nothing itself.
    const apart = await replicas.startHere();
    const { id } = (await invoke(one(1), { hold: 'cancelled' }, 'async')).json<{ id: string }>();
    await heldWith('cancelled');
    expect((await replicas.api(apart, 'POST', `/api/executions/${id}/cancel`)).status).toBe(202);
    await expect.poll(() => agent.runner.held.size, { timeout: 40_000 }).toBe(0);
    await expect
      .poll(async () => (await replicas.executions()).find((execution) => execution.id === id), { timeout: 40_000 })
      .toMatchObject({ outcome: 'outcome_unknown' });
  });

  it('shows whoever follows logs at one replica the lines of calls of another', async () => {
    const [second, third] = [one(1), one(2)];
    const stop = new AbortController();
    const response = await fetch(`http://127.0.0.1:${third.httpPort}/api/functions/echo/logs?follow=true`, {
      headers: { authorization: `Bearer ${await replicas.apiKey()}` },
      signal: AbortSignal.any([stop.signal, AbortSignal.timeout(30_000)]),
    });
    await invoke(second, { mark: 'followed' });
    let seen = '';
    for await (const chunk of response.body ?? []) {
      seen += Buffer.from(chunk).toString();
      if (seen.includes('followed')) break;
    }
    stop.abort();
    expect(seen).toContain('followed');
  });

  it('refuses at every replica an API key that was revoked, soon', async () => {
    const key = await new ApiKeys(replicas.postgres.database).create('default', 'short-lived');
    const statuses = () =>
      Promise.all(
        [one(1), one(2)].map(async ({ httpPort }) => {
          const headers = { authorization: `Bearer ${key}` };
          return (await httpCall({ port: httpPort, path: '/api/functions', headers })).status;
        }),
      );
    expect(await statuses()).toEqual([200, 200]);
    await replicas.postgres.database.run(
      'revoke',
      (sql) => sql`update api_keys set revoked_at = now() where name = 'short-lived'`,
    );
    await expect.poll(statuses, { timeout: 20_000, interval: 100 }).toEqual([401, 401]);
  });

  it('finds a replica that joins by what the others announce, and is linked once to one with two addresses', async () => {
    const linked = agent.linked;
    const joined = await replicas.startProcess({ announced: true });
    await expect.poll(() => agent.linked, { timeout: 30_000 }).toBe(linked + 1);
    expect((await invoke(joined, { from: 'joined' })).status).toBe(200);

    const twice = new ScriptedAgent({
      id: 'node-2',
      addresses: [`localhost:${joined.grpcPort}`, `127.0.0.1:${joined.grpcPort}`],
      tls: await replicas.agentCredentials('node-2'),
    });
    try {
      await expect.poll(() => twice.welcomes, { timeout: 40_000 }).toBeGreaterThan(0);
      await expect
        .poll(async () => {
          const { nodes } = (await replicas.api(joined, 'GET', '/api/nodes')).json<{
            nodes: { id: string; connected: boolean }[];
          }>();
          return nodes.filter(({ id, connected }) => id === 'node-2' && connected).length;
        })
        .toBe(1);
      const welcomes = twice.welcomes;
      // A fight between the two would be a new session with every call.
      for (let i = 0; i < 20; i += 1) await invoke(joined, { i });
      expect([twice.linked, twice.welcomes]).toEqual([1, welcomes]);
    } finally {
      await twice.close();
    }
  });
});
