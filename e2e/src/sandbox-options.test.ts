import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Fleet } from './fleet/fleet.js';
import type { HttpAnswer } from './fleet/http-call.js';
import { descendantsOf } from './fleet/processes.js';

const SLEEPER = `
  export const handler = async ({ ms }) => {
    await new Promise((resolve) => setTimeout(resolve, ms ?? 0));
    return 'slept';
  };`;

interface NodeShown {
  readonly connected: boolean;
  readonly isolation: readonly string[];
  readonly sandboxes: { readonly idle: number; readonly busy: number; readonly blank: number; readonly leaked: number };
}

let fleet: Fleet;

async function deploy(name: string, options: object = {}): Promise<HttpAnswer> {
  return await fleet.api('PUT', `/api/functions/${name}`, { memoryMb: 128, code: { source: SLEEPER }, ...options });
}

const invoke = (name: string, event: object = {}) => fleet.api('POST', `/api/functions/${name}/invocations`, event);

async function nodes(): Promise<NodeShown[]> {
  return (await fleet.api('GET', '/api/nodes')).json<{ nodes: NodeShown[] }>().nodes;
}

const sum = async (of: keyof NodeShown['sandboxes']) =>
  (await nodes()).reduce((total, { sandboxes }) => total + sandboxes[of], 0);

describe('a fleet with containers', () => {
  beforeAll(async () => {
    fleet = await Fleet.start({ driver: 'docker', nodes: 2, env: { LAMBDA_BLANKS: '1' } });
    const offered = (await nodes()).map(({ isolation }) => isolation);
    expect(offered, 'the engine needs runc and, under the name runsc, gVisor').toEqual([
      expect.arrayContaining(['runc', 'gvisor']),
      expect.arrayContaining(['runc', 'gvisor']),
    ]);
  });
  afterAll(() => fleet?.dispose());

  it.each([
    ['auto', 'gvisor'],
    ['gvisor', 'gvisor'],
    ['runc', 'runc'],
  ])('gives a function with isolation %s %s', async (asked, got) => {
    const deployed = await deploy(`isolated-${asked}`, { isolation: asked });
    expect(deployed.json()).toMatchObject({ isolation: asked, network: 'none', concurrency: 1, keepRunning: false });
    const answer = await invoke(`isolated-${asked}`);
    expect([answer.text, answer.headers['x-lambda-isolation']]).toEqual(['"slept"', got]);
    const id = String(answer.headers['x-request-id']);
    const recorded = async () => (await fleet.api('GET', `/api/executions/${id}`)).json();
    await expect.poll(recorded, { timeout: 10_000 }).toMatchObject({ receipt: { isolation: got } });
    expect((await fleet.api('DELETE', `/api/functions/isolated-${asked}`)).status).toBe(204);
  });

  it('keeps as many sandboxes ready as a function asks for, on both nodes, also after an agent was killed', async () => {
    // The example has a sandbox too, and it may be deployed a moment after the fleet is ready.
    const forgetExample = async () => (await fleet.api('DELETE', '/api/functions/greet')).status;
    await expect.poll(forgetExample, { timeout: 20_000 }).toBe(204);
    // What nodes say of themselves is a moment old.
    await expect.poll(() => sum('idle'), { timeout: 20_000 }).toBe(0);
    expect((await deploy('ready', { isolation: 'runc', provisionedConcurrency: 4, keepAliveMs: 100 })).status).toBe(
      201,
    );
    await expect.poll(() => sum('idle'), { timeout: 30_000 }).toBe(4);
    const spread = (await nodes()).map(({ sandboxes }) => sandboxes.idle);
    expect(spread).toEqual([2, 2]);
    const four = await Promise.all([1, 2, 3, 4].map(() => invoke('ready', { ms: 300 })));
    expect(four.map(({ headers }) => headers['x-lambda-start'])).toEqual(['warm', 'warm', 'warm', 'warm']);

    const agents = (await descendantsOf(fleet.process.pid ?? 0)).filter(({ command }) =>
      command.includes('node-agent'),
    );
    process.kill(agents[0]?.pid ?? 0, 'SIGKILL');
    const connected = async () => (await nodes()).filter((node) => node.connected).length;
    await expect.poll(connected, { timeout: 20_000, interval: 10 }).toBe(1);
    await expect.poll(connected, { timeout: 20_000 }).toBe(2);
    await expect.poll(() => sum('idle'), { timeout: 30_000 }).toBe(4);

    expect((await fleet.api('PATCH', '/api/functions/ready', { provisionedConcurrency: 0 })).status).toBe(200);
    await invoke('ready');
    await expect.poll(() => sum('idle'), { timeout: 30_000 }).toBe(0);
  });

  it('runs several invocations in one sandbox where a function can take them, and says so', async () => {
    await deploy('shared', { isolation: 'runc', concurrency: 4 });
    await invoke('shared');
    const answers = await Promise.all([1, 2, 3, 4].map(() => invoke('shared', { ms: 400 })));
    expect(answers.map(({ text }) => text)).toEqual(Array(4).fill('"slept"'));
    expect(answers.map(({ headers }) => headers['x-lambda-shared'])).toEqual(Array(4).fill('true'));
    expect(new Set(answers.map(({ headers }) => headers['x-lambda-node'])).size).toBe(1);
  });

  it('starts calls of a function that has no sandbox from a blank', async () => {
    await deploy('first', { isolation: 'runc', keepAliveMs: 0 });
    await expect.poll(() => sum('blank'), { timeout: 20_000 }).toBe(2);
    await deploy('second', { isolation: 'runc', keepAliveMs: 0 });
    await expect.poll(() => sum('blank'), { timeout: 20_000 }).toBe(2);
    // No sandbox of it is kept, so each call is a first one. A node's figures are a moment old, and so may be the blanks there.
    const start = async () => (await invoke('second')).headers['x-lambda-start'];
    await expect.poll(start, { timeout: 30_000, interval: 500 }).toBe('blank');
    expect(await sum('leaked')).toBe(0);
  });

  it.each<[object, string]>([
    [{ isolation: 'kata' }, 'isolation must be'],
    [{ concurrency: 0 }, 'concurrency must be'],
    [{ runtime: 'python', concurrency: 2, code: { source: 'def handler(event): pass' } }, 'concurrency'],
    [{ egressHosts: ['https://example.com'] }, 'egressHosts[0] must be a host name'],
    [{ provisionedConcurrency: -1 }, 'provisionedConcurrency must be'],
  ])('refuses %j', async (options, message) => {
    const answer = await deploy('refused', options);
    expect([answer.status, answer.text]).toEqual([400, expect.stringContaining(message)]);
  });
});

describe('a fleet of plain processes', () => {
  beforeAll(async () => {
    fleet = await Fleet.start({ driver: 'process', env: { LAMBDA_LABELS: 'zone=a,disk=ssd' } });
  });
  afterAll(() => fleet?.dispose());

  it('does not run a function that asks for an isolation which is not there', async () => {
    const answer = await deploy('isolated', { isolation: 'gvisor' });
    expect([answer.status, answer.text]).toEqual([503, expect.stringContaining('with isolation gvisor')]);
    expect((await deploy('auto')).status).toBe(201);
    expect((await invoke('auto')).headers['x-lambda-isolation']).toBe('none');
  });

  it('runs a function that asks for labels where a node has them, and nowhere else', async () => {
    expect((await deploy('labelled', { labels: { zone: 'a', disk: 'ssd' } })).status).toBe(201);
    expect((await invoke('labelled')).status).toBe(200);
    const elsewhere = await deploy('elsewhere', { labels: { zone: 'b' } });
    expect([elsewhere.status, elsewhere.text]).toEqual([503, expect.stringContaining('the labels zone=b')]);
  });
});
