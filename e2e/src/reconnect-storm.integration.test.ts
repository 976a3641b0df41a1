import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Replica, Replicas } from '../test-support/replicas.js';
import { ScriptedAgent } from '../test-support/scripted-agent.js';
import { httpCall } from './fleet/http-call.js';

const AGENTS = 500;

/** Five hundred agents and their only control plane, which dies and comes back. */
describe('a reconnect storm', () => {
  let replicas: Replicas;
  const agents: ScriptedAgent[] = [];

  beforeAll(async () => {
    replicas = await Replicas.open();
  });
  afterAll(async () => {
    await Promise.all(agents.map((agent) => agent.close()));
    await replicas?.close();
  });

  const linked = (count: number) =>
    expect
      .poll(() => agents.filter((agent) => agent.linked === 1).length, { timeout: 150_000, interval: 100 })
      .toBe(count);
  const connected = async (replica: Replica): Promise<number> => {
    const answer = await replicas.api(replica, 'GET', '/api/nodes');
    return answer.json<{ nodes: { connected: boolean }[] }>().nodes.filter((node) => node.connected).length;
  };
  /** The longest that the event loop of the replica stood still, of what it reports, milliseconds. */
  const longestDelayMs = async ({ httpPort }: Replica): Promise<number> => {
    const { text } = await httpCall({ port: httpPort, path: '/metrics' });
    return Math.round(1_000 * Number(/^nodejs_eventloop_lag_max_seconds (\S+)$/m.exec(text)?.[1]));
  };

  it('ends with every agent welcomed and in service again, once each', async () => {
    const first = await replicas.startProcess();
    for (let i = 0; i < AGENTS; i += 1) {
      const tls = await replicas.agentCredentials(`node-${i}`);
      const agent = new ScriptedAgent({ id: `node-${i}`, addresses: [`localhost:${first.grpcPort}`], tls });
      agents.push(agent);
      // They were started over time. One process has the work of five hundred machines to do.
      if (i % 20 === 19) await linked(agents.length);
    }
    const before = agents.map(({ welcomes }) => welcomes);

    await first.stop();
    await linked(0);
    const second = await replicas.startProcess({ instead: first });
    await linked(AGENTS);
    expect(await connected(second)).toBe(AGENTS);
    expect(agents.map(({ welcomes }, i) => welcomes - (before[i] ?? 0))).toEqual(agents.map(() => 1));
    const delayMs = await longestDelayMs(second);
    process.stdout.write(
      `The replica's event loop stood still for ${delayMs} ms at most while ${AGENTS} agents came.\n`,
    );
  }, 400_000);
});
