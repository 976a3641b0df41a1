import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Pki } from '../../cli/src/up/pki.js';
import { killOne } from './fleet/chaos.js';
import { ExtraAgent } from './fleet/extra-agent.js';
import { Fleet } from './fleet/fleet.js';
import type { HttpAnswer } from './fleet/http-call.js';
import { descendantsOf } from './fleet/processes.js';
import { readRuns, recordedHandler } from './fleet/run-ledger.js';
import { environmentOf } from './fleet/second-control-plane.js';

interface NodeView {
  readonly id: string;
  readonly connected: boolean;
  readonly eligible: boolean;
  readonly cordoned: boolean;
  readonly sandboxes: { readonly busy: number; readonly idle: number };
  readonly drain: { readonly state: string; readonly result: Record<string, unknown> } | null;
  readonly events: readonly { readonly kind: string; readonly detail: Readonly<Record<string, string>> }[];
}

/** More than one node has slots for, so that both work. */
const CLIENTS = 12;
const SLOTS = 16;
const WORK = `await new Promise((r) => setTimeout(r, event.ms)); return 'done';`;

let fleet: Fleet;
let folder = '';
let runsFile = '';

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lf-drain-'));
  // Functions run as a user without rights.
  await chmod(folder, 0o711);
  runsFile = join(folder, 'runs');
  await writeFile(runsFile, '');
  await chmod(runsFile, 0o666);
  fleet = await Fleet.start({
    driver: 'process',
    nodes: 2,
    env: { LAMBDA_UP_DEATHS_MAX: '100', LAMBDA_SLOTS: `${SLOTS}` },
  });
  const sources = {
    work: recordedHandler(runsFile, WORK),
    // Takes for ever the first time.
    once: recordedHandler(
      runsFile,
      `if (before === 0) await new Promise((r) => setTimeout(r, 100_000)); return 'done';`,
    ),
  };
  for (const [name, source] of Object.entries(sources)) {
    const settings = { memoryMb: 128, timeoutMs: 120_000, code: { source } };
    const deployed = await fleet.api('PUT', `/api/functions/${name}`, settings);
    expect(deployed.status, deployed.text).toBe(201);
  }
}, 180_000);

afterAll(async () => {
  await fleet.dispose();
  await rm(folder, { recursive: true, force: true });
});

const node = async (id: string): Promise<NodeView> => (await fleet.api('GET', `/api/nodes/${id}`)).json<NodeView>();

async function call(body: object): Promise<HttpAnswer> {
  const headers = { authorization: `Bearer ${await fleet.apiKey()}`, 'content-type': 'application/json' };
  const path = '/api/functions/work/invocations';
  return await fleet.call({ method: 'POST', path, headers, body: JSON.stringify(body), timeoutMs: 150_000 });
}

let stopLoad: (() => Promise<unknown>) | undefined;

/** Calls all the time, until it is told to stop; then the answers that were no success. */
function steadyLoad(): { readonly nodes: Set<unknown>; stop(): Promise<readonly string[]> } {
  let going = true;
  const failures: string[] = [];
  const nodes = new Set<unknown>();
  const client = async (): Promise<void> => {
    while (going) {
      const answer = await call({ ms: 40 }).catch((err: unknown) => String(err));
      if (typeof answer === 'string' || answer.status !== 200)
        failures.push(typeof answer === 'string' ? answer : answer.text);
      else nodes.add(answer.headers['x-lambda-node']);
    }
  };
  const clients = Array.from({ length: CLIENTS }, client);
  const stop = async () => {
    going = false;
    await Promise.all(clients);
    return failures;
  };
  stopLoad = stop;
  return { nodes, stop };
}

async function agentPid(id: string): Promise<number> {
  for (const { pid, command } of await descendantsOf(fleet.process.pid ?? 0)) {
    if (!command.includes('node-agent/dist/main.js')) continue;
    if ((await environmentOf(pid)).LAMBDA_TLS_CERT?.endsWith(`/${id}.crt`)) return pid;
  }
  throw new Error(`no process is the agent of ${id}`);
}

/** Of the start of an agent that connected last; undefined while it is away. */
async function bootOf(id: string): Promise<unknown> {
  const { connected, events } = await node(id);
  return connected ? events.find(({ kind }) => kind === 'connected')?.detail.bootId : undefined;
}

/** Ends an agent as the supervisor of a service would, and waits until its successor is there. */
async function restartAgent(id: string): Promise<void> {
  await expect.poll(() => bootOf(id), { timeout: 30_000 }).toBeDefined();
  const before = await bootOf(id);
  process.kill(await agentPid(id), 'SIGTERM');
  const isNew = async () => ![undefined, before].includes(await bootOf(id));
  await expect.poll(isNew, { timeout: 30_000 }).toBe(true);
}

afterEach(async () => {
  await stopLoad?.();
  for (const id of ['node-1', 'node-2']) await fleet.api('DELETE', `/api/nodes/${id}/drain`);
  for (const id of ['node-1', 'node-2']) {
    await expect.poll(async () => (await node(id)).eligible, { timeout: 30_000 }).toBe(true);
  }
});

describe('taking a node out of service', () => {
  it('drains under load without a failed call, and stays out of service over restarts', {
    timeout: 180_000,
  }, async () => {
    const load = steadyLoad();
    await expect.poll(() => load.nodes.size, { timeout: 30_000 }).toBe(2);
    const drained = await fleet.cli(['node', 'drain', 'node-1', '-y', '-m', 'disk swap', '-o', 'json']);
    expect(drained.code, drained.stderr).toBe(0);
    expect(JSON.parse(drained.stdout)).toMatchObject([
      { node: 'node-1', state: 'complete', deadlineReached: false, killed: 0, requeued: 0 },
    ]);
    expect(await load.stop()).toEqual([]);
    expect(await node('node-1')).toMatchObject({ cordoned: true, eligible: false, sandboxes: { idle: 0, busy: 0 } });

    await killOne(fleet, 'control plane');
    await restartAgent('node-1');
    expect(await node('node-1')).toMatchObject({ connected: true, cordoned: true, eligible: false });
    for (let i = 0; i < 10; i += 1) expect((await call({ ms: 0 })).headers['x-lambda-node']).toBe('node-2');
    expect(await fleet.cli(['node', 'undrain', 'node-1'])).toMatchObject({ code: 0 });
    expect(await node('node-1')).toMatchObject({ cordoned: false, eligible: true });
  });

  it('ends at the deadline what runs: unknown for who waits, again elsewhere for what was queued', {
    timeout: 120_000,
  }, async () => {
    await fleet.cli(['node', 'cordon', 'node-2']);
    const waiting = call({ ms: 100_000 });
    const queued = await fleet.api('POST', '/api/functions/once/invocations?mode=async', { counts: true });
    const { id } = queued.json<{ id: string }>();
    await expect.poll(async () => (await readRuns(runsFile)).has(id), { timeout: 30_000 }).toBe(true);
    await expect.poll(async () => (await node('node-1')).sandboxes.busy, { timeout: 30_000 }).toBe(2);
    await fleet.cli(['node', 'uncordon', 'node-2']);
    const plan = await fleet.cli(['node', 'drain', 'node-1', '--dry-run']);
    expect(plan).toMatchObject({ code: 0, stdout: expect.stringMatching(/^node-1: 2 in flight, all of it over in /) });
    expect((await node('node-1')).cordoned).toBe(false);

    const drained = await fleet.cli(['node', 'drain', 'node-1', '--deadline', '1s', '-y', '-o', 'json']);
    expect(drained.code, drained.stderr).toBe(7);
    const result = { deadlineReached: true, killed: 2, requeued: 1 };
    expect(JSON.parse(drained.stdout)).toMatchObject([{ node: 'node-1', state: 'complete', ...result }]);
    expect(await node('node-1')).toMatchObject({ cordoned: true, drain: { state: 'complete', result } });
    expect(await waiting).toMatchObject({ status: 502, headers: { 'x-lambda-outcome': 'outcome_unknown' } });
    const execution = async () => (await fleet.api('GET', `/api/executions/${id}`)).json();
    await expect
      .poll(execution, { timeout: 30_000 })
      .toMatchObject({ outcome: 'success', epoch: 2, attempts: 1, nodeId: 'node-2' });
    expect((await readRuns(runsFile)).get(id)).toHaveLength(2);
  });

  it('refuses what would break something, names the flags, and changes nothing unless it is forced', {
    timeout: 120_000,
  }, async () => {
    await fleet.cli(['node', 'cordon', 'node-2']);
    const before = await node('node-1');
    const refused = await fleet.cli(['node', 'drain', 'node-1', '-y', '--min-eligible', '1']);
    expect(refused.code).toBe(5);
    expect(refused.stderr).toMatch(/No other eligible node has the runtime nodejs.*--force/);
    expect(refused.stderr).toMatch(/0 eligible nodes would be left.*--min-eligible/);
    expect(await fleet.cli(['node', 'drain', 'node-1', 'node-2', '-y'])).toMatchObject({ code: 5 });
    const { events, drain, cordoned } = await node('node-1');
    expect({ events, drain, cordoned }).toEqual({
      events: before.events,
      drain: before.drain,
      cordoned: before.cordoned,
    });
    expect(await fleet.cli(['node', 'drain', 'node-9', '-y'])).toMatchObject({ code: 3 });
    expect(await fleet.cli(['node', 'drain', 'node', '-y'])).toMatchObject({ code: 2 });
    expect(await fleet.cli(['node', 'drain', 'node-1', '-y', '--force'])).toMatchObject({ code: 0 });
  });

  it('goes on after a Ctrl-C, can be watched again, and is cancelled by undrain', { timeout: 120_000 }, async () => {
    await fleet.cli(['node', 'cordon', 'node-2']);
    const running = call({ ms: 8_000 });
    await expect.poll(async () => (await node('node-1')).sandboxes.busy, { timeout: 30_000 }).toBe(1);
    await fleet.cli(['node', 'uncordon', 'node-2']);
    const watched = await fleet.startCli(['node', 'drain', 'node-1', '-y']);
    await expect.poll(() => watched.errors(), { timeout: 30_000 }).toMatch(/^node-1: 1 in flight, .* left/m);
    watched.end();
    expect(await watched.exited).toBe(130);
    expect(await node('node-1')).toMatchObject({ cordoned: true, drain: { state: 'draining' } });
    expect((await fleet.api('PUT', '/api/nodes/node-1/eligibility', { eligible: true })).status).toBe(409);
    const again = await fleet.startCli(['node', 'drain', '--monitor', 'node-1', '-o', 'json']);
    await expect.poll(() => again.errors(), { timeout: 30_000 }).toMatch(/^node-1: 1 in flight, .* left/m);
    await fleet.cli(['node', 'undrain', 'node-1', '--keep-ineligible']);
    expect(await again.exited).toBe(1);
    expect(JSON.parse(again.output())).toMatchObject([{ node: 'node-1', state: 'cancelled' }]);
    expect(await node('node-1')).toMatchObject({ cordoned: true, drain: { state: 'cancelled' } });
    expect((await running).status).toBe(200);
  });

  it('an agent that is stopped under load fails no call, and its next start takes work by itself', {
    timeout: 120_000,
  }, async () => {
    const load = steadyLoad();
    await expect.poll(() => load.nodes.size, { timeout: 30_000 }).toBe(2);
    await restartAgent('node-1');
    expect((await node('node-1')).events.map(({ kind }) => kind)).toContain('leaving');
    load.nodes.clear();
    await expect.poll(() => load.nodes.size, { timeout: 30_000 }).toBe(2);
    expect(await load.stop()).toEqual([]);
  });

  it('keeps a floor over a drain: its sandboxes are warm on the other node when the drain is over', {
    timeout: 120_000,
  }, async () => {
    const settings = { memoryMb: 128, provisionedConcurrency: 2, code: { source: recordedHandler(runsFile, WORK) } };
    expect((await fleet.api('PUT', '/api/functions/ready', settings)).status).toBe(201);
    const isWarm = async (id: string) => (await node(id)).sandboxes.idle > 0;
    for (const id of ['node-1', 'node-2']) await expect.poll(() => isWarm(id), { timeout: 60_000 }).toBe(true);
    const plan = await fleet.cli(['node', 'drain', 'node-1', '--dry-run', '-o', 'json']);
    expect(JSON.parse(plan.stdout)).toMatchObject([
      { floors: [{ functionName: 'ready', sandboxes: 1, to: [{ node: 'node-2', sandboxes: 1 }] }] },
    ]);
    expect(await fleet.cli(['node', 'drain', 'node-1', '-y'])).toMatchObject({ code: 0 });
    const starts = await Promise.all(
      [1, 2].map(() => fleet.api('POST', '/api/functions/ready/invocations', { ms: 500 })),
    );
    expect(starts.map(({ headers }) => [headers['x-lambda-node'], headers['x-lambda-start']])).toEqual([
      ['node-2', 'warm'],
      ['node-2', 'warm'],
    ]);
    expect((await fleet.api('DELETE', '/api/functions/ready')).status).toBe(204);
  });

  it('an agent that is stopped waits for a call, and a second signal ends the waiting', {
    timeout: 120_000,
  }, async () => {
    const certificate = await new Pki(join(fleet.dataDir, 'pki')).node('node-4');
    const agent = await ExtraAgent.start(fleet, certificate, { LAMBDA_LEAVE_S: '90' });
    try {
      await expect.poll(async () => (await node('node-4')).eligible, { timeout: 30_000 }).toBe(true);
      for (const id of ['node-1', 'node-2']) await fleet.cli(['node', 'cordon', id]);
      const running = call({ ms: 100_000 });
      await expect.poll(async () => (await node('node-4')).sandboxes.busy, { timeout: 30_000 }).toBe(1);
      for (const id of ['node-1', 'node-2']) await fleet.cli(['node', 'uncordon', id]);
      const ended = agent.end('SIGTERM');
      await expect.poll(() => node('node-4'), { timeout: 30_000 }).toMatchObject({ leaving: true, eligible: false });
      expect(await agent.end('SIGTERM')).toBe(0);
      expect(await ended).toBe(0);
      expect(await running).toMatchObject({ status: 502, headers: { 'x-lambda-outcome': 'outcome_unknown' } });
      expect(await node('node-4')).toMatchObject({ connected: false, cordoned: false });
    } finally {
      await agent.end('SIGKILL');
    }
  });

  it('records a drain as lost when its agent was killed and does not come back', { timeout: 180_000 }, async () => {
    const agent = await ExtraAgent.start(fleet, await new Pki(join(fleet.dataDir, 'pki')).node('node-3'));
    try {
      await expect.poll(async () => (await node('node-3')).eligible, { timeout: 30_000 }).toBe(true);
      for (const id of ['node-1', 'node-2']) await fleet.cli(['node', 'cordon', id]);
      const running = call({ ms: 100_000 }).catch(() => undefined);
      await expect.poll(async () => (await node('node-3')).sandboxes.busy, { timeout: 30_000 }).toBe(1);
      for (const id of ['node-1', 'node-2']) await fleet.cli(['node', 'uncordon', id]);
      const watched = await fleet.startCli(['node', 'drain', 'node-3', '-y', '-o', 'json']);
      await expect.poll(() => watched.errors(), { timeout: 30_000 }).toMatch(/^node-3: 1 in flight, .* left/m);
      await agent.end('SIGKILL');
      expect((await running)?.status).toBe(502);
      expect(await watched.exited).toBe(1);
      expect(JSON.parse(watched.output())).toMatchObject([{ node: 'node-3', state: 'lost' }]);
      expect(await node('node-3')).toMatchObject({ connected: false, cordoned: true, drain: { state: 'lost' } });
    } finally {
      await agent.end('SIGKILL');
    }
  });
});
