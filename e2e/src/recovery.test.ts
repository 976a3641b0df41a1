import { afterEach, describe, expect, it } from 'vitest';
import { Fleet } from './fleet/fleet.js';
import { descendantsOf } from './fleet/processes.js';

/** Any process may be killed at any time: `lambda up` brings it back and nothing recorded is lost. */
describe('recovery from kill -9 while calls run', () => {
  let fleet: Fleet | undefined;

  afterEach(async () => {
    await fleet?.dispose();
    fleet = undefined;
  });

  it.each([
    ['the agent', 'node-agent/dist/main.js'],
    ['the control plane', 'control-plane/dist/main.js'],
    ['PostgreSQL', 'postgres'],
  ])('%s', async (_what, command) => {
    fleet = await Fleet.start({ driver: 'docker' });
    const running = fleet;
    const deployed = await running.api('PUT', '/api/functions/slow', {
      code: {
        source: 'export const handler = async (e) => { await new Promise((r) => setTimeout(r, e.ms)); return e; };',
      },
    });
    expect(deployed.status, deployed.text).toBe(201);
    const before = await running.api('POST', '/api/functions/slow/invocations', { ms: 1 });
    const recordedId = String(before.headers['x-request-id']);
    await expect.poll(async () => (await running.api('GET', `/api/executions/${recordedId}`)).status).toBe(200);

    const inFlight = [1, 2, 3].map(() =>
      running.api('POST', '/api/functions/slow/invocations', { ms: 1_500 }).then(
        (answer) => answer.status,
        () => 'connection broken' as const,
      ),
    );
    await new Promise((resolve) => setTimeout(resolve, 500));
    const victims = (await descendantsOf(running.process.pid ?? 0)).filter((entry) => entry.command.includes(command));
    const victim = victims.sort((a, b) => a.pid - b.pid)[0];
    if (victim === undefined) throw new Error(`no process runs ${command}`);
    process.kill(victim.pid, 'SIGKILL');

    for (const outcome of await Promise.all(inFlight)) expect([200, 502, 503, 'connection broken']).toContain(outcome);
    await running.recovered();
    expect((await running.api('POST', '/api/functions/slow/invocations', { ms: 1 })).status).toBe(200);
    expect((await running.function('greet', '/?name=World')).text).toBe('{"message":"Hello, World!"}');
    expect((await running.api('GET', `/api/executions/${recordedId}`)).json()).toMatchObject({ outcome: 'success' });
    expect(running.process.exitCode).toBeNull();

    // The calls that were in flight are recorded too, each once, with how they ended.
    const listed = async () =>
      (await running.api('GET', '/api/executions?function=slow&limit=100')).json<{
        executions: { outcome: string }[];
      }>();
    await expect.poll(async () => (await listed()).executions.length, { timeout: 20_000 }).toBe(5);
  });
});
