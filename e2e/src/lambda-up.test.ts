import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, describe, expect, it } from 'vitest';
import { Fleet, REPOSITORY } from './fleet/fleet.js';
import { freePorts } from './fleet/free-ports.js';
import { descendantsOf, processesMentioning } from './fleet/processes.js';
import { runProgram } from './fleet/run-program.js';

const run = promisify(execFile);
const CLI = join(REPOSITORY, 'cli/bin/lambda.mjs');

const containersOf = async (dataDir: string) =>
  (await run('docker', ['ps', '-aq', '--filter', 'label=lambda.node', '--format', '{{.ID}} {{.Mounts}}'])).stdout
    .split('\n')
    .filter((row) => row.includes(dataDir));

describe('lambda up', () => {
  const fleets: Fleet[] = [];
  const folders: string[] = [];

  afterEach(async () => {
    for (const fleet of fleets.splice(0)) await fleet.dispose();
    for (const folder of folders.splice(0)) await rm(folder, { recursive: true, force: true });
  });

  const start = async (options: Parameters<typeof Fleet.start>[0]) => {
    const fleet = await Fleet.start(options);
    fleets.push(fleet);
    return fleet;
  };

  const newFolder = async () => {
    const folder = await mkdtemp(join(tmpdir(), 'lf-up-'));
    folders.push(folder);
    return folder;
  };

  const up = async (args: string[], env: NodeJS.ProcessEnv = {}) =>
    await runProgram(process.execPath, [CLI, 'up', ...args], { env: { ...process.env, ...env }, timeoutMs: 60_000 });

  it.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)('leaves no process and no container after %s', async (signal) => {
    const fleet = await start({ driver: 'docker' });
    await fleet.function('greet', '/');
    const children = await descendantsOf(fleet.process.pid ?? 0);
    expect(children.length).toBeGreaterThan(3);
    await fleet.stop(signal);
    const pids = new Set(children.map((child) => child.pid));
    await expect
      .poll(async () => (await processesMentioning('')).filter((entry) => pids.has(entry.pid)), { timeout: 5_000 })
      .toEqual([]);
    expect(await processesMentioning(fleet.dataDir)).toEqual([]);
    expect(await containersOf(fleet.dataDir)).toEqual([]);
  });

  it('leaves no process when it is killed itself', async () => {
    const fleet = await start({ driver: 'process' });
    await fleet.function('greet', '/');
    const children = await descendantsOf(fleet.process.pid ?? 0);
    await fleet.kill();
    const pids = new Set(children.map((child) => child.pid));
    await expect
      .poll(async () => (await processesMentioning('')).filter((entry) => pids.has(entry.pid)), { timeout: 15_000 })
      .toEqual([]);
  });

  it('keeps functions, executions and the key over a restart, and over a kill', async () => {
    const dataDir = await newFolder();
    const first = await start({ driver: 'process', dataDir });
    await first.api('PUT', '/api/functions/kept', { code: { source: 'export const handler = async () => "kept";' } });
    const id = String((await first.api('POST', '/api/functions/kept/invocations', {})).headers['x-request-id']);
    await expect.poll(async () => (await first.api('GET', `/api/executions/${id}`)).status).toBe(200);
    const key = await first.apiKey();
    await first.kill();
    const second = await start({ driver: 'process', dataDir });
    expect(await second.apiKey()).toBe(key);
    expect((await second.api('POST', '/api/functions/kept/invocations', {})).text).toBe('"kept"');
    expect((await second.api('GET', `/api/executions/${id}`)).status).toBe(200);
    await second.stop();
    const third = await start({ driver: 'process', dataDir });
    expect((await third.api('POST', '/api/functions/kept/invocations', {})).text).toBe('"kept"');
  });

  it('says in one plain line that functions run without isolation, and how to get it', async () => {
    const fleet = await start({ driver: 'auto', env: { DOCKER_HOST: 'unix:///nonexistent/docker.sock' } });
    const lines = fleet.output.split('\n').filter((line) => /without isolation/i.test(line));
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatch(/Docker/);
    expect((await fleet.function('greet', '/?name=World')).status).toBe(200);
  });

  it('refuses a second start on the same data directory and names the first', async () => {
    const fleet = await start({ driver: 'process' });
    const [http = 0, grpc = 0] = await freePorts(2);
    const second = await up(['--data-dir', fleet.dataDir, '--http-port', `${http}`, '--grpc-port', `${grpc}`]);
    expect(second.code).not.toBe(0);
    expect(second.stderr).toContain(String(fleet.process.pid));
    expect((await fleet.function('greet', '/?name=World')).status).toBe(200);
  });

  it('says which port is taken and by what flag to change it, and starts nothing', async () => {
    const dataDir = await newFolder();
    const [taken = 0, free = 0] = await freePorts(2);
    const server = createServer().listen(taken, '127.0.0.1');
    try {
      const http = await up(['--data-dir', dataDir, '--http-port', `${taken}`, '--grpc-port', `${free}`]);
      expect(http.code).not.toBe(0);
      expect(http.stderr).toMatch(new RegExp(`${taken}[\\s\\S]*--http-port`));
      const grpc = await up(['--data-dir', dataDir, '--http-port', `${free}`, '--grpc-port', `${taken}`]);
      expect(grpc.stderr).toMatch(new RegExp(`${taken}[\\s\\S]*--grpc-port`));
      expect(await processesMentioning(dataDir)).toEqual([]);
    } finally {
      server.close();
    }
  });

  it('falls back to a temporary directory, and says so, when the data directory cannot be written', async () => {
    // Root writes everywhere but below a file.
    const file = join(await newFolder(), 'file');
    await writeFile(file, '');
    const unwritable = join(file, 'data');
    const fleet = await start({ driver: 'process', args: ['--data-dir', unwritable] });
    expect(fleet.output).toMatch(/temporary/);
    expect((await fleet.function('greet', '/?name=World')).status).toBe(200);
  });

  it('runs several agents, each with metrics of its own', async () => {
    const fleet = await start({ driver: 'process', nodes: 2 });
    const { nodes } = (await fleet.api('GET', '/api/nodes')).json<{ nodes: { id: string; connected: boolean }[] }>();
    expect(nodes.filter((node) => node.connected).map((node) => node.id)).toEqual(['node-1', 'node-2']);
    const ports = await Promise.all(
      ['node-1', 'node-2'].map(async (node) => {
        const log = await readFile(join(fleet.dataDir, 'logs', `${node}.log`), 'utf8');
        return /"port":(\d+),"msg":"metrics_served"/.exec(log)?.[1];
      }),
    );
    expect(new Set(ports).size).toBe(2);
    for (const port of ports) {
      const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
      expect(text).toContain('lambda_leaked_sandboxes 0');
    }
  });
});
