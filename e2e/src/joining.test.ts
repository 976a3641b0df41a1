import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Fleet, REPOSITORY } from './fleet/fleet.js';

/** What an operator does, with what the commands print and nothing else. */
describe('a machine beside `lambda up`', () => {
  let fleet: Fleet;
  let agent: ChildProcess | undefined;
  beforeAll(async () => {
    fleet = await Fleet.start({ driver: 'process' });
  });
  afterAll(async () => {
    if (agent !== undefined && agent.exitCode === null && agent.signalCode === null) {
      const exited = new Promise((resolve) => agent?.once('exit', resolve));
      agent.kill('SIGTERM');
      await exited;
    }
    await fleet.dispose();
  });

  const connected = async () =>
    (await fleet.api('GET', '/api/nodes'))
      .json<{ nodes: { id: string; connected: boolean }[] }>()
      .nodes.filter((node) => node.connected)
      .map(({ id }) => id);

  it('joins with what `lambda node join-token` prints, and is gone after `lambda node rm`', async () => {
    const made = await fleet.cli(['node', 'join-token', '--node', 'guest']);
    expect(made.code, made.stderr).toBe(0);
    const variables = Object.fromEntries(
      [...made.stderr.matchAll(/^ {2}(LAMBDA_\w+)=(.+)$/gm)].map(([, name, value]) => [name, value]),
    );
    expect(variables.LAMBDA_JOIN_TOKEN).toBe(made.stdout.trim());
    agent = spawn(process.execPath, [join(REPOSITORY, 'node-agent/dist/main.js')], {
      env: {
        ...{ PATH: process.env.PATH, ...variables, LAMBDA_DRIVER: 'process' },
        LAMBDA_DATA_DIR: join(fleet.dataDir, 'guest'),
      },
      stdio: 'ignore',
    });
    await expect.poll(connected, { timeout: 60_000 }).toEqual(['guest', 'node-1']);
    const removed = await fleet.cli(['node', 'rm', '-y', 'guest']);
    expect(removed.code, removed.stderr).toBe(0);
    await expect.poll(connected, { timeout: 5_000 }).toEqual(['node-1']);
  });

  it('its own node is gone after `lambda node rm` as well, and is one again after the next start', async () => {
    expect((await fleet.cli(['node', 'rm', '-y', 'node-1'])).code).toBe(0);
    await expect.poll(connected, { timeout: 5_000 }).toEqual([]);
    await fleet.stop();
    const next = await Fleet.start({ driver: 'process', dataDir: fleet.dataDir });
    try {
      const { nodes } = (await next.api('GET', '/api/nodes')).json<{ nodes: { id: string; connected: boolean }[] }>();
      expect(nodes).toMatchObject([{ id: 'node-1', connected: true }]);
    } finally {
      await next.stop();
    }
  });
});
