import { execFile } from 'node:child_process';
import { readdir, readFile, readlink } from 'node:fs/promises';
import { createServer } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { type CliError, usageError } from '../cli-error.js';

/** Codes that no other port would help against. */
const HOST_PROBLEMS: readonly (string | undefined)[] = ['EADDRNOTAVAIL', 'ENOTFOUND', 'EAI_AGAIN'];

export interface PortNeed {
  readonly port: number;
  readonly host: string;
  /** The flag that chooses another one. */
  readonly flag: string;
}

export interface TakenPort {
  readonly need: PortNeed;
  /** `pid 4711 (node)`, where the system says it. */
  readonly who: string | undefined;
  /** Why it cannot be had, when it is not that somebody listens there. */
  readonly problem: string | undefined;
}

/**
 * The needed ports that cannot be listened on.
 *
 * @param graceMs how long to wait for ports that are being given up, after a predecessor was killed
 */
export async function takenPorts(needs: readonly PortNeed[], graceMs: number): Promise<readonly TakenPort[]> {
  const until = performance.now() + graceMs;
  for (;;) {
    const checks = await Promise.all(needs.map(async (need) => ({ need, code: await listenProblem(need) })));
    const taken = checks.filter(({ code }) => code !== undefined);
    if (taken.length === 0) return [];
    if (performance.now() >= until) {
      return await Promise.all(
        taken.map(async ({ need, code }) => ({
          need,
          who: code === 'EADDRINUSE' ? await listenerOf(need.port) : undefined,
          problem: code === 'EADDRINUSE' ? undefined : code,
        })),
      );
    }
    await delay(100);
  }
}

/** @throws CliError when one of them cannot be had because of its host */
export function checkHosts(taken: readonly TakenPort[]): void {
  for (const { need, problem } of taken) if (HOST_PROBLEMS.includes(problem)) throw unusableHost(need.host, problem);
}

function unusableHost(host: string, problem: string | undefined): CliError {
  return usageError(
    `${host} is no address of this machine that can be listened on (${problem}).`,
    'Choose one with --host: 127.0.0.1 for this machine only, 0.0.0.0 for its whole network.',
  );
}

/** A port that nobody listens on now. */
export async function freePort(host: string): Promise<number> {
  const server = createServer();
  await new Promise<void>((ready, reject) => {
    server.once('error', (err: NodeJS.ErrnoException) => reject(unusableHost(host, err.code)));
    server.listen({ port: 0, host }, ready);
  });
  const address = server.address();
  await new Promise((closed) => server.close(closed));
  if (typeof address !== 'object' || address === null) throw new Error('the system gave no port');
  return address.port;
}

async function listenProblem({ port, host }: PortNeed): Promise<string | undefined> {
  // `localhost` means ::1 first for many clients: a stranger there would get the calls meant for 127.0.0.1.
  const alsoIpv6 = host === '127.0.0.1' || host === 'localhost';
  const problem = await tryListen(port, host);
  if (problem !== undefined || !alsoIpv6) return problem;
  return (await tryListen(port, '::1')) === 'EADDRINUSE' ? 'EADDRINUSE' : undefined;
}

function tryListen(port: number, host: string): Promise<string | undefined> {
  return new Promise((settle) => {
    const server = createServer();
    server.once('error', (err: NodeJS.ErrnoException) => settle(err.code ?? err.message));
    server.listen({ port, host, exclusive: true }, () => server.close(() => settle(undefined)));
  });
}

/** Who listens on a TCP port, as far as this user may know. */
async function listenerOf(port: number): Promise<string | undefined> {
  try {
    return process.platform === 'linux' ? await linuxListener(port) : await lsofListener(port);
  } catch {
    // Knowing who is a courtesy; the message works without it.
    return undefined;
  }
}

async function linuxListener(port: number): Promise<string | undefined> {
  const suffix = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  const inodes = new Set<string>();
  for (const table of ['/proc/net/tcp', '/proc/net/tcp6']) {
    const lines = (await readFile(table, 'utf8').catch(() => '')).split('\n').slice(1);
    for (const line of lines) {
      const fields = line.trim().split(/\s+/);
      // Column 2 is the local address, 4 the state (0A = listening), 10 the socket's inode.
      if (fields[1]?.endsWith(suffix) === true && fields[3] === '0A' && fields[9] !== undefined) inodes.add(fields[9]);
    }
  }
  if (inodes.size === 0) return undefined;
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    for (const fd of await readdir(`/proc/${pid}/fd`).catch(() => [])) {
      const target = await readlink(`/proc/${pid}/fd/${fd}`).catch(() => '');
      const inode = /^socket:\[(\d+)\]$/.exec(target)?.[1];
      if (inode === undefined || !inodes.has(inode)) continue;
      const name = (await readFile(`/proc/${pid}/comm`, 'utf8')).trim();
      return `pid ${pid} (${name})`;
    }
  }
  return undefined;
}

async function lsofListener(port: number): Promise<string | undefined> {
  const { stdout } = await promisify(execFile)('lsof', ['-nP', `-iTCP:${port}`, '-sTCP:LISTEN', '-Fpc'], {
    timeout: 3_000,
  });
  const pid = /^p(\d+)$/m.exec(stdout)?.[1];
  const name = /^c(.+)$/m.exec(stdout)?.[1];
  return pid === undefined ? undefined : `pid ${pid} (${name ?? 'unknown'})`;
}
