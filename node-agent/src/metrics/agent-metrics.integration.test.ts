import { afterAll, beforeAll, expect, test } from 'vitest';
import { HostUnderTest } from '../../test-support/host-under-test.js';
import { AgentMetrics } from './agent-metrics.js';
import { MetricsServer } from './metrics-server.js';

const MB = 1024 * 1024;
let node: HostUnderTest;
let metrics: AgentMetrics;
let server: MetricsServer;
beforeAll(async () => {
  node = await HostUnderTest.open('docker', { memoryMb: 1024 });
  metrics = new AgentMetrics(() => node.host.figures());
  server = await MetricsServer.listen(metrics.registry, 0);
});
afterAll(async () => {
  await server?.close();
  await node?.close();
});

async function scrape(): Promise<ReadonlyMap<string, number>> {
  const response = await fetch(`http://127.0.0.1:${server.port}/metrics`);
  expect(response.headers.get('content-type')).toContain('text/plain');
  const lines = (await response.text()).split('\n').filter((line) => !line.startsWith('#') && line !== '');
  return new Map(
    lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))]),
  );
}

test('metrics follow the sandboxes, their starts, the memory and the cache', async () => {
  const before = await scrape();
  expect(before.get('lambda_sandboxes{state="idle"}')).toBe(0);
  expect(before.get('lambda_memory_total_bytes')).toBe(1024 * MB);
  expect(before.get('lambda_memory_promised_bytes')).toBe(0);
  expect(before.get('lambda_artifact_cache_bytes')).toBe(0);

  const spec = await node.deploy('export const handler = async () => 1;', { memoryMb: 128 });
  for (let calls = 0; calls < 3; calls += 1) metrics.observeEnd(await node.call(spec));
  await expect.poll(async () => (await scrape()).get('lambda_sandboxes_frozen')).toBe(1);
  const after = await scrape();
  expect(after.get('lambda_sandboxes{state="idle"}')).toBe(1);
  expect(after.get('lambda_memory_promised_bytes')).toBe(128 * MB);
  expect(after.get('lambda_artifact_cache_bytes')).toBeGreaterThan(0);
  expect(after.get('lambda_leaked_sandboxes')).toBe(0);
  expect(after.get('lambda_sandbox_starts_total{path="warm"}')).toBe(2);
  expect(after.get('lambda_sandbox_starts_total{path="cold"}')).toBe(1);
  expect(after.get('lambda_sandbox_starts_total{path="blank"}')).toBe(0);
});

test('nothing else is served, and nobody but this machine is', async () => {
  expect((await fetch(`http://127.0.0.1:${server.port}/`)).status).toBe(404);
  // Another address of this machine, which a server on all of them would answer at.
  await expect(fetch(`http://127.0.0.2:${server.port}/metrics`)).rejects.toThrow();
});
