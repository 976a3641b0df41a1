import { execFile } from 'node:child_process';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { Logger } from '../logger.js';

const run = promisify(execFile);

/** Fast shutdown first, immediate shutdown next, SIGKILL last; the wait after each in milliseconds. */
const STOP_STEPS = [
  ['SIGINT', 8_000],
  ['SIGQUIT', 3_000],
  ['SIGKILL', 2_000],
] as const;

/** The first line of a PostgreSQL lock file, or undefined when there is none. */
async function pidIn(lockFile: string): Promise<number | undefined> {
  const text = await readFile(lockFile, 'utf8').catch(() => '');
  const pid = Number.parseInt(text, 10);
  return Number.isSafeInteger(pid) && pid > 1 ? pid : undefined;
}

/** The command line of a live process; undefined when it is gone or a zombie. */
async function commandLine(pid: number): Promise<string | undefined> {
  if (process.platform === 'linux') {
    const text = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
    return text === '' ? undefined : text.replaceAll('\0', ' ');
  }
  const { stdout } = await run('/bin/ps', ['-p', String(pid), '-o', 'command='], { timeout: 5_000 }).catch(() => ({
    stdout: '',
  }));
  return stdout.trim() === '' ? undefined : stdout;
}

/**
 * Ends the server that an earlier, killed process left on this data directory.
 *
 * Lock files name a pid, and pids are used again: a pid whose command line is not
 * a postgres of this very directory is somebody else and left alone, and its
 * lock file is removed, because PostgreSQL would refuse to start over it.
 */
export async function stopLeftoverServer(dataDir: string, socketDir: string, log: Logger): Promise<void> {
  for (const lockFile of [join(dataDir, 'postmaster.pid'), join(socketDir, '.s.PGSQL.5432.lock')]) {
    const pid = await pidIn(lockFile);
    if (pid === undefined) continue;
    const isServer = async () => {
      const command = await commandLine(pid);
      return command?.includes('postgres') === true && command.includes(dataDir);
    };
    if (await isServer()) {
      log.warn({ pid, dataDir }, 'postgres_leftover_stopping');
      await endServer(pid, isServer);
    }
    // PostgreSQL removes it on a clean stop; what is left is stale.
    await rm(lockFile, { force: true });
  }
}

async function endServer(pid: number, isServer: () => Promise<boolean>): Promise<void> {
  for (const [signal, waitMs] of STOP_STEPS) {
    try {
      process.kill(pid, signal);
    } catch (err) {
      if ((err as NodeJS.ErrnoException).code === 'ESRCH') return;
      throw err;
    }
    const until = performance.now() + waitMs;
    while (performance.now() < until) {
      if (!(await isServer())) return;
      await delay(50);
    }
  }
}
