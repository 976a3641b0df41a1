import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, expect, it } from 'vitest';
import { killOne } from './fleet/chaos.js';
import { Fleet } from './fleet/fleet.js';
import type { HttpAnswer } from './fleet/http-call.js';

let fleet: Fleet | undefined;

afterEach(async () => {
  await fleet?.dispose();
  fleet = undefined;
});

it('a request whose control plane is killed while it runs gets its result when it is sent again, and runs once', async () => {
  fleet = await Fleet.start({ driver: 'process' });
  const running = fleet;
  const source = `export const handler = async (e) => {
    await new Promise((r) => setTimeout(r, e.ms));
    return { random: Math.random() };
  };`;
  const deployed = await running.api('PUT', '/api/functions/slow', { code: { source } });
  expect(deployed.status, deployed.text).toBe(201);
  const headers = {
    ...{ authorization: `Bearer ${await running.apiKey()}`, 'content-type': 'application/json' },
    'idempotency-key': 'order 17',
  };
  const send = (): Promise<HttpAnswer> =>
    running.call({ method: 'POST', path: '/api/functions/slow/invocations', headers, body: '{"ms":3000}' });
  const executions = async () =>
    (await running.api('GET', '/api/executions?function=slow')).json<{
      executions: { id: string; outcome: string }[];
    }>().executions;

  const first = send().then(
    ({ status }) => status,
    () => 'connection broken',
  );
  // So that it is the first.
  await sleep(200);
  expect((await send()).status).toBe(409);
  await killOne(running, 'control plane');
  expect(await first).toBe('connection broken');

  expect((await send()).status).toBe(409);
  let again: HttpAnswer | undefined;
  await expect
    .poll(
      async () => {
        again = await send();
        return again.status;
      },
      { timeout: 90_000, interval: 500 },
    )
    .toBe(200);
  const [execution, ...others] = await executions();
  expect(others).toEqual([]);
  expect(execution?.outcome).toBe('success');
  expect(again?.headers).toMatchObject({ 'x-request-id': execution?.id, 'idempotent-replayed': 'true' });
  expect(again?.text).toMatch(/^\{"random":0\.\d+\}$/);
  expect((await send()).text).toBe(again?.text);
  expect(await executions()).toHaveLength(1);
});
