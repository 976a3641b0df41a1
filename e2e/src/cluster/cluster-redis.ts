import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { access, rm } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';

const run = promisify(execFile);
const START_DEADLINE_MS = 10_000;

/** The Redis of a cluster: a real server on a unix socket, without a disk. */
export class ClusterRedis {
  #server: ChildProcess | undefined;

  /** @param socket path of at most 100 bytes */
  constructor(private readonly socket: string) {}

  get url(): string {
    return `unix://${this.socket}`;
  }

  async start(): Promise<void> {
    await rm(this.socket, { force: true });
    const settings = ['--port', '0', '--unixsocket', this.socket, '--save', '', '--appendonly', 'no'];
    const server = spawn('redis-server', settings, { stdio: 'ignore' });
    this.#server = server;
    const failed = once(server, 'error').then(([err]) => {
      throw new Error('There is no redis-server. Install it: apt-get install redis-server', { cause: err });
    });
    await Promise.race([failed, this.#listening()]);
  }

  /** One command. Resolves with the answer as `redis-cli` prints it. */
  async ask(...command: string[]): Promise<string> {
    return (await run('redis-cli', ['-s', this.socket, '--raw', ...command])).stdout.trim();
  }

  pause(): void {
    this.#server?.kill('SIGSTOP');
  }

  resume(): void {
    this.#server?.kill('SIGCONT');
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    const server = this.#server;
    if (server === undefined || server.exitCode !== null || server.signalCode !== null) return;
    const exited = once(server, 'exit');
    server.kill('SIGCONT');
    server.kill(signal);
    await exited;
  }

  async #listening(): Promise<void> {
    for (const giveUpAt = Date.now() + START_DEADLINE_MS; Date.now() < giveUpAt; await sleep(20)) {
      const there = await access(this.socket).then(
        () => true,
        () => false,
      );
      if (there) return;
    }
    throw new Error('redis-server does not listen');
  }
}
