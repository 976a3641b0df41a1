import { type ChildProcess, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { withDeadline } from '@lambda-fleet/common/deadline';
import { errorText } from '@lambda-fleet/common/errors';
import { KeepAliveClient } from './keep-alive-client.js';

const READY_DEADLINE_MS = 120_000;
const BARE_DEADLINE_MS = 10_000;
const STOP_DEADLINE_MS = 30_000;
const OUTPUT_KEPT_CHARS = 20_000;

export type Driver = 'auto' | 'docker' | 'process';

export interface RunningSystem {
  readonly port: number;
  readonly apiKey: string;
  /** Ends it and removes everything it wrote. */
  stop(): Promise<void>;
}

/** Starts `lambda up`, with this besides its own environment, on free ports and in a directory of its own, and resolves when it is ready for calls. */
export async function startSystem(
  driver: Driver,
  signal: AbortSignal,
  environment: Readonly<Record<string, string>> = {},
): Promise<RunningSystem> {
  const folder = await mkdtemp(join(tmpdir(), 'lambda-bench-'));
  // PostgreSQL runs as another user and must be able to pass.
  await chmod(folder, 0o711);
  const dataDir = join(folder, 'data');
  const lambda = fileURLToPath(new URL('../../cli/bin/lambda.mjs', import.meta.url));
  const child = spawn(
    process.execPath,
    [lambda, 'up', '--http-port', '0', '--grpc-port', '0', '--data-dir', dataDir, '--driver', driver],
    // A process group of its own: a Ctrl-C in the terminal reaches it through `stop` alone, because it takes a second
    // signal for "kill at once".
    { stdio: ['ignore', 'pipe', 'pipe'], detached: true, env: { ...process.env, ...environment } },
  );
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output = (output + text).slice(-OUTPUT_KEPT_CHARS);
    });
  }
  const stop = async () => {
    await end(child);
    await rm(folder, { recursive: true, force: true });
  };
  try {
    const context = await whenReady(child, join(dataDir, 'context.json'), signal);
    return { ...context, stop };
  } catch (error) {
    await stop();
    signal.throwIfAborted();
    throw new Error(`lambda up did not become ready: ${errorText(error)}. It printed:\n${output}`);
  }
}

/** The bare `node:http` server, in a process of its own like the system's. */
export async function startBareServer(): Promise<{ readonly port: number; stop(): Promise<void> }> {
  const child = fork(fileURLToPath(new URL('../dist/bare-server.js', import.meta.url)));
  const stop = () => end(child);
  const exited = once(child, 'exit').then(() => Promise.reject(new Error('the bare server ended')));
  try {
    const first = Promise.race([once(child, 'message'), exited]);
    const [message]: unknown[] = await withDeadline('starting the bare server', BARE_DEADLINE_MS, first);
    if (typeof message === 'object' && message !== null && 'port' in message && typeof message.port === 'number') {
      return { port: message.port, stop };
    }
    throw new Error('the bare server did not tell its port');
  } catch (error) {
    await stop();
    throw error;
  } finally {
    // Nobody waits for it any more; its end is seen by the calls that fail.
    exited.catch(() => {});
  }
}

async function whenReady(
  child: ChildProcess,
  contextFile: string,
  signal: AbortSignal,
): Promise<{ port: number; apiKey: string }> {
  const until = performance.now() + READY_DEADLINE_MS;
  while (performance.now() < until) {
    signal.throwIfAborted();
    if (child.exitCode !== null || child.signalCode !== null) throw new Error('it ended');
    const context = await readContext(contextFile);
    if (context !== undefined && (await isReady(context.port))) return context;
    await sleep(100);
  }
  throw new Error(`it was not ready after ${READY_DEADLINE_MS / 1_000} s`);
}

/** Address and key, as `lambda up` writes them for the CLI; undefined until it has. */
async function readContext(contextFile: string): Promise<{ port: number; apiKey: string } | undefined> {
  try {
    const context: unknown = JSON.parse(await readFile(contextFile, 'utf8'));
    if (typeof context !== 'object' || context === null) return undefined;
    if (!('endpoint' in context) || !('apiKeyFile' in context)) return undefined;
    const apiKey = (await readFile(resolve(dirname(contextFile), String(context.apiKeyFile)), 'utf8')).trim();
    return { port: Number(new URL(String(context.endpoint)).port), apiKey };
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    if (typeof error === 'object' && error !== null && 'code' in error && error.code === 'ENOENT') return undefined;
    throw error;
  }
}

async function isReady(port: number): Promise<boolean> {
  const client = new KeepAliveClient(port, {});
  try {
    return (await client.call('GET', '/readyz')).status === 200;
  } catch {
    // It does not listen yet.
    return false;
  } finally {
    client.close();
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill('SIGTERM');
  try {
    await withDeadline('stopping', STOP_DEADLINE_MS, exited);
  } catch {
    child.kill('SIGKILL');
    await exited;
  }
}
