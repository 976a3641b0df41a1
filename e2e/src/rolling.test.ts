import { setTimeout as pause } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { type AgentPlan, Cluster, type ClusterAgent } from './cluster/cluster.js';
import { type SteadyLoad, startLoad } from './cluster/steady-load.js';

const CALLS_PER_SECOND = 12;
/** Long enough that each stop meets calls in flight. */
const RUN_MS = 150;

/** Networks are not what is looked at, and each costs its agent's start some seconds. */
const QUIET = { LAMBDA_EGRESS: 'off', LAMBDA_BLANKS: '1' };
const WITHOUT_GVISOR = { ...QUIET, LAMBDA_GVISOR: 'off' };
const AGENTS: readonly AgentPlan[] = [QUIET, QUIET, WITHOUT_GVISOR, WITHOUT_GVISOR, WITHOUT_GVISOR].map((env) => ({
  ...{ driver: 'docker', env },
}));

const FUNCTIONS = [
  ['on-all', 'runc'],
  ['on-two', 'gvisor'],
] as const;

let cluster: Cluster | undefined;
let load: SteadyLoad | undefined;

afterEach(async () => {
  await load?.stop();
  load = undefined;
  await cluster?.dispose();
  cluster = undefined;
});

describe('three control planes and five agents, two with gVisor, under a steady load', () => {
  it('lose no call while each node is drained, restarted and returned, and each control plane is stopped', async () => {
    const running = await start();
    for (const agent of running.agents) {
      const drained = await running.cli(['node', 'drain', agent.id, '-y', '--deadline', '2m']);
      expect(drained.code, `${drained.stdout}\n${drained.stderr}`).toBe(0);
      expect((await nodeAt(running, agent)).eligible).toBe(false);
      await agent.process.restart('SIGTERM');
      expect((await nodeAt(running, agent)).eligible).toBe(false);
      const returned = await running.cli(['node', 'undrain', agent.id]);
      expect(returned.code, `${returned.stdout}\n${returned.stderr}`).toBe(0);
      await takesWork(running, agent);
    }
    for (const replica of running.replicas) {
      await replica.process.restart('SIGTERM');
      await running.ready();
      for (const agent of running.agents) await takesWork(running, agent);
    }
    const { sent, succeeded, failures } = await (load as SteadyLoad).stop();
    process.stdout.write(`rolling: ${sent} calls, ${succeeded} succeeded, ${failures.length} failed\n`);
    expect(failures).toEqual([]);
    expect(succeeded).toBe(sent);
    expect(running.ended()).toEqual([]);
    expect(await runsPerCall(running)).toEqual({ calls: sent, twice: [] });
  }, 900_000);

  it('lose only what is in flight on a process that is killed, say so, and repeat nothing', async () => {
    const running = await start();
    let inFlight = 0;
    for (const agent of running.agents.slice(0, 3)) {
      inFlight += await steady();
      await agent.process.restart('SIGKILL');
      await takesWork(running, agent);
    }
    inFlight += await steady();
    const ofAgents = [...(load as SteadyLoad).failures];
    for (const { process: replica } of running.replicas) {
      inFlight += await steady();
      await replica.restart('SIGKILL');
      await running.ready();
      for (const agent of running.agents) await takesWork(running, agent);
    }
    const { sent, succeeded, failures } = await (load as SteadyLoad).stop();
    const ofReplicas = failures.slice(ofAgents.length);
    process.stdout.write(
      `rolling: ${sent} calls, ${succeeded} succeeded; lost with agents ${ofAgents.length}, with control planes ${ofReplicas.length}\n`,
    );
    // A killed agent's callers are told that nobody knows, or that it did not start; a killed control plane's, nothing.
    for (const { what } of ofAgents) expect(what).toMatch(/^(502 outcome_unknown|503 not_started) /);
    for (const { what } of ofReplicas) expect(what).toMatch(/^connection: .*(ECONNRESET|socket hang up)/);
    expect(failures.length).toBeLessThanOrEqual(inFlight);
    expect((await runsPerCall(running)).twice).toEqual([]);
  }, 900_000);
});

async function start(): Promise<Cluster> {
  const running = await Cluster.start({
    controlPlanes: 3,
    agents: AGENTS,
    redis: true,
    // What is checked is whether calls fail, not how long a busy machine takes to start a sandbox.
    controlPlaneEnv: { LAMBDA_QUEUE_BUDGET_MS: '50000' },
  });
  cluster = running;
  const source = `export const handler = async ({ call }) => {
    console.log('call ' + call);
    await new Promise((resolve) => setTimeout(resolve, ${RUN_MS}));
    return { call };
  };`;
  for (const [name, isolation] of FUNCTIONS) {
    const deployed = await running.api('PUT', `/api/functions/${name}`, { memoryMb: 128, isolation, code: { source } });
    expect(deployed.status, deployed.text).toBe(201);
  }
  const { nodes } = (await running.api('GET', '/api/nodes')).json<{ nodes: { isolation: string[] }[] }>();
  expect(nodes.map(({ isolation }) => isolation.includes('gvisor'))).toEqual([true, true, false, false, false]);
  const headers = { authorization: `Bearer ${await running.apiKey()}`, 'content-type': 'application/json' };
  load = startLoad(CALLS_PER_SECOND, (call) =>
    running.balancer.call({
      method: 'POST',
      path: `/api/functions/${call % 6 === 0 ? 'on-two' : 'on-all'}/invocations`,
      headers,
      body: JSON.stringify({ call }),
    }),
  );
  return running;
}

/** Waits until the cluster keeps up with its load, and returns how many calls are in flight then, with one that is sent right after. */
async function steady(): Promise<number> {
  await pause(1_000);
  const open = (): number => load?.open ?? 0;
  await expect.poll(open, { timeout: 60_000, interval: 20 }).toBeLessThanOrEqual(CALLS_PER_SECOND / 2);
  return open() + 1;
}

interface NodeAnswer {
  readonly connected: boolean;
  readonly eligible: boolean;
}

async function nodeAt(running: Cluster, agent: ClusterAgent, replica = running.replicas[0]): Promise<NodeAnswer> {
  const answer = await running.api('GET', `/api/nodes/${agent.id}`, undefined, replica);
  expect(answer.status, answer.text).toBe(200);
  return answer.json<NodeAnswer & Record<string, unknown>>();
}

/** Waits until every replica gives the node work. */
async function takesWork(running: Cluster, agent: ClusterAgent): Promise<void> {
  for (const replica of running.replicas) {
    await expect
      .poll(() => nodeAt(running, agent, replica), { timeout: 60_000, interval: 100 })
      .toMatchObject({ connected: true, eligible: true });
  }
}

/** What the handlers wrote, once it is all there: how many calls ran, and which of them more than once. */
async function runsPerCall(running: Cluster): Promise<{ calls: number; twice: string[] }> {
  const runs = new Map<string, number>();
  for (const [name] of FUNCTIONS) {
    for (let after = 0; ; ) {
      const { logs, lastId } = (
        await running.api('GET', `/api/functions/${name}/logs?limit=1000&after=${after}`)
      ).json<{ logs: { text: string }[]; lastId: number }>();
      for (const { text } of logs) if (text.startsWith('call ')) runs.set(text, (runs.get(text) ?? 0) + 1);
      if (logs.length === 0) break;
      after = lastId;
    }
  }
  return { calls: runs.size, twice: [...runs].filter(([, count]) => count > 1).map(([call]) => call) };
}
