import { type ChildProcess, spawn } from 'node:child_process';
import { access, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { freePort } from './ports.js';
import { processStart } from './process-identity.js';

/** The supervisor as a process of its own, with stand-ins for the control plane and the agents and without PostgreSQL. */
const program = (name: string) => fileURLToPath(new URL(`../../test-programs/${name}.mjs`, import.meta.url));
const DEADLINE_MS = 20_000;

let folder: string;
let fleets: Fleet[];
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lambda-up-'));
  fleets = [];
});
afterEach(async () => {
  for (const fleet of fleets) if (fleet.process.exitCode === null) fleet.process.kill('SIGTERM');
  await Promise.all(fleets.map((fleet) => fleet.ended));
  await rm(folder, { recursive: true, force: true });
});

interface Fleet {
  readonly process: ChildProcess;
  readonly ended: Promise<number | null>;
  /** Everything it wrote so far, both streams. */
  readonly text: () => string;
  readonly says: (pattern: RegExp) => Promise<void>;
}

async function until<T>(what: string, look: () => T | undefined | Promise<T | undefined>): Promise<T> {
  const giveUpAt = performance.now() + DEADLINE_MS;
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    if (performance.now() > giveUpAt) throw new Error(`${what} did not happen within ${DEADLINE_MS} ms`);
    await delay(20);
  }
}

function up(options: object = {}, agent = 'agent'): Fleet {
  const complete = {
    httpPort: 0,
    grpcPort: 0,
    host: '127.0.0.1',
    dataDir: 'data',
    nodes: 2,
    driver: 'process',
    ...options,
  };
  const child = spawn(
    process.execPath,
    [program('run-fleet'), JSON.stringify(complete), program('control-plane'), program(agent)],
    {
      cwd: folder,
      env: { PATH: process.env.PATH, HOME: folder, DATABASE_URL: 'postgres://nobody@localhost/none' },
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  );
  let text = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
    });
  }
  const ended = new Promise<number | null>((settle) => child.once('close', settle));
  const says = async (pattern: RegExp) => {
    await until(`${pattern} in\n${text}`, () => (pattern.test(text) ? true : undefined)).catch(() => {
      throw new Error(`it never said ${pattern}, but:\n${text}`);
    });
  };
  const fleet = { process: child, ended, text: () => text, says };
  fleets.push(fleet);
  return fleet;
}

/** The pids of a process's children. */
async function childrenOf(pid: number | undefined): Promise<readonly number[]> {
  const text = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => '');
  return text.trim().split(' ').filter(Boolean).map(Number);
}

const gone = (pids: readonly number[]) =>
  until('the end of every child', () => (pids.every((pid) => processStart(pid) === undefined) ? true : undefined));

const running = /Lambda Fleet is running/;

describe.runIf(process.platform === 'linux')('lambda up', { timeout: 60_000 }, () => {
  it('starts the fleet, deploys the example, leaves a context and says what to try', async () => {
    const fleet = up();
    await fleet.says(/Ctrl-C stops everything/);
    expect(fleet.text()).toMatch(/WITHOUT isolation/);
    expect(fleet.text()).toMatch(/Deploying examples\/greet … done/);
    expect(fleet.text()).toMatch(/curl "http:\/\/greet\.localhost:\d+\/\?name=World"/);
    expect(await childrenOf(fleet.process.pid)).toHaveLength(3);
    const context = JSON.parse(await readFile(join(folder, 'data/context.json'), 'utf8'));
    const own = JSON.parse(await readFile(join(folder, '.config/lambda/context.json'), 'utf8'));
    expect(context.apiKeyFile).toBe('api-key');
    expect(own).toEqual({ endpoint: context.endpoint, apiKeyFile: join(folder, 'data/api-key') });
  });

  it.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)('stops everything on %s and ends with 0', async (signal) => {
    const fleet = up();
    await fleet.says(running);
    const children = await childrenOf(fleet.process.pid);
    // A terminal and npm deliver the same Ctrl-C twice.
    fleet.process.kill(signal);
    fleet.process.kill(signal);
    expect(await fleet.ended).toBe(0);
    await gone(children);
    expect(fleet.text()).toContain('Stopped.');
    await expect(access(join(folder, 'data/lock'))).rejects.toThrow('ENOENT');
  });

  it('does not deploy the example a second time', async () => {
    const first = up();
    await first.says(running);
    first.process.kill('SIGTERM');
    await first.ended;
    const second = up();
    await second.says(running);
    expect(second.text()).not.toContain('Deploying');
    expect(second.text()).toContain('npx lambda deploy examples/greet');
  });

  it('refuses a second start on the same data directory and names the first', async () => {
    const first = up();
    await first.says(running);
    const second = up();
    expect(await second.ended).toBe(5);
    expect(second.text()).toContain(`pid ${first.process.pid}, http://localhost:`);
    expect(first.process.exitCode).toBeNull();
  });

  it('starts a killed child again and says so', async () => {
    const fleet = up({ nodes: 1 });
    await fleet.says(running);
    for (const child of await childrenOf(fleet.process.pid)) process.kill(child, 'SIGKILL');
    await fleet.says(/control plane was killed by SIGKILL; starting it again/);
    await fleet.says(/node-1 is back after/);
    await fleet.says(/control plane is back after/);
  });

  it('ends with the reason when a child cannot live', async () => {
    const fleet = up({}, 'crashing');
    expect(await fleet.ended).toBe(1);
    expect(fleet.text()).toMatch(/node-\d ended with status 3, too often within a minute/);
    expect(fleet.text()).toContain('the last words of a crashing child');
  });

  it('takes its children along when it is killed, and the next start takes over', async () => {
    const fleet = up({ httpPort: await freePort('127.0.0.1') });
    await fleet.says(running);
    const children = await childrenOf(fleet.process.pid);
    expect(children).toHaveLength(3);
    fleet.process.kill('SIGKILL');
    await gone(children);
    const next = up();
    await next.says(running);
  });

  it('kills children that ignore the request when the signal comes again', async () => {
    const fleet = up({}, 'stubborn');
    await fleet.says(running);
    const children = await childrenOf(fleet.process.pid);
    fleet.process.kill('SIGINT');
    await fleet.says(/stopping …/);
    await until('the end', async () => {
      fleet.process.kill('SIGINT');
      await delay(200);
      return fleet.process.exitCode ?? undefined;
    });
    expect(fleet.text()).toContain('SIGINT again: killing everything');
    await gone(children);
  });

  it('names a taken port and the flag that changes it, and starts nothing', async () => {
    const server = createServer();
    const port = await freePort('127.0.0.1');
    await new Promise<void>((ready) => server.listen(port, '127.0.0.1', ready));
    try {
      const fleet = up({ grpcPort: port });
      expect(await fleet.ended).toBe(1);
      expect(fleet.text()).toMatch(new RegExp(`Port ${port} is taken by pid ${process.pid} \\(.+\\)`));
      expect(fleet.text()).toContain(`--grpc-port ${port + 1}`);
      expect(await readdir(join(folder, 'data'))).not.toContain('api-key');
    } finally {
      await new Promise((closed) => server.close(closed));
    }
  });

  it('uses a temporary directory, and says so, when the asked one cannot be written', async () => {
    const fleet = up({ dataDir: '/proc/lambda' });
    await fleet.says(running);
    const place = /Everything is kept in the temporary directory (\S+) instead/.exec(fleet.text())?.[1];
    fleet.process.kill('SIGTERM');
    await fleet.ended;
    await expect(access(place ?? '')).rejects.toThrow('ENOENT');
  });
});
