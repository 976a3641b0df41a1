import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Secret } from '@lambda-fleet/common/secret';
import { Redis } from 'ioredis';

/** A real redis-server of its own on a unix socket, for tests. Close it: it leaves nothing behind. */
export interface TestRedis {
  readonly url: Secret;
  /** Another client, for looking and for doing damage. Only while the server runs. */
  readonly client: Redis;
  /** Kills it, calls `whileDown`, and starts an empty one. */
  restart(whileDown: () => Promise<void>): Promise<void>;
  /** Stops it from doing anything, connections staying open, while `meanwhile` runs. */
  freeze(meanwhile: () => Promise<void>): Promise<void>;
  close(): Promise<void>;
}

const START_TRIES = 500;
const START_PAUSE_MS = 20;

export async function startTestRedis(): Promise<TestRedis> {
  const folder = await mkdtemp(join(tmpdir(), 'lf-redis-'));
  const socket = join(folder, 'redis.sock');
  let server: ChildProcess = await start(folder, socket);
  let client = await connect(socket, server);
  const kill = async (): Promise<void> => {
    client.disconnect();
    server.kill('SIGKILL');
    if (server.exitCode === null && server.signalCode === null) await once(server, 'exit');
  };
  return {
    url: new Secret(`unix://${socket}`),
    get client() {
      return client;
    },
    async restart(whileDown) {
      await kill();
      await whileDown();
      server = await start(folder, socket);
      client = await connect(socket, server);
    },
    async freeze(meanwhile) {
      server.kill('SIGSTOP');
      try {
        await meanwhile();
      } finally {
        server.kill('SIGCONT');
      }
    },
    async close() {
      await kill();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function start(folder: string, socket: string): Promise<ChildProcess> {
  await rm(socket, { force: true });
  const settings = ['--port', '0', '--unixsocket', socket, '--dir', folder, '--save', '', '--appendonly', 'no'];
  const server = spawn('redis-server', settings, { stdio: 'ignore' });
  try {
    await once(server, 'spawn');
  } catch (cause) {
    throw new Error('There is no redis-server. Install it: apt-get install redis-server', { cause });
  }
  return server;
}

async function connect(socket: string, server: ChildProcess): Promise<Redis> {
  for (let tries = 0; tries < START_TRIES && server.exitCode === null; tries += 1) {
    const client = new Redis(socket, { lazyConnect: true, retryStrategy: null, protocol: 2 });
    client.on('error', () => undefined);
    try {
      await client.connect();
      return client;
    } catch {
      // It does not listen yet.
      await sleep(START_PAUSE_MS);
    }
  }
  throw new Error('redis-server does not listen.');
}
