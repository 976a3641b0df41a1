import { readdirSync, readFileSync } from 'node:fs';

/**
 * Reads of /proc. On a system without it there are no processes to be found.
 *
 * @typedef {{pid: number, commandLine: string}} Process
 */

/**
 * @param {(commandLine: string, pid: number) => boolean} matches
 * @returns {Process[]} without this process
 */
export function processesWith(matches) {
  const pids = readFolder('/proc')
    .map(Number)
    .filter((pid) => pid > 0 && pid !== process.pid);
  return pids
    .map((pid) => ({ pid, commandLine: read(`/proc/${pid}/cmdline`).replaceAll('\0', ' ').trim() }))
    .filter(({ pid, commandLine }) => commandLine !== '' && matches(commandLine, pid));
}

/** Whether a process was started with `name=value` in its environment. */
export function hasEnvironment(pid, name, value) {
  return read(`/proc/${pid}/environ`).split('\0').includes(`${name}=${value}`);
}

/** When a process started, in the kernel's clock ticks: with the pid it names one process for good. */
export function processStart(pid) {
  const stat = read(`/proc/${pid}/stat`);
  // The program's name, in parentheses, may hold anything; the fields after it are counted from its end.
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
}

/** @param {{pid: number, start: string | undefined}} known */
export function isSameProcess(known) {
  return known.start !== undefined && processStart(known.pid) === known.start;
}

/** SIGTERM, then SIGKILL after `graceMs`. Resolves when the process is gone. */
export async function endProcess(pid, graceMs) {
  const start = processStart(pid);
  for (const [signal, waitMs] of [
    ['SIGTERM', graceMs],
    ['SIGKILL', 5_000],
  ]) {
    if (!isSameProcess({ pid, start })) return;
    try {
      process.kill(pid, signal);
    } catch (error) {
      // ESRCH: it ended between the check and the signal.
      if (error.code !== 'ESRCH') throw error;
    }
    const until = performance.now() + waitMs;
    while (isSameProcess({ pid, start }) && !isZombie(pid) && performance.now() < until) {
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    if (isZombie(pid)) return;
  }
}

function isZombie(pid) {
  return /\) Z /.test(read(`/proc/${pid}/stat`));
}

function readFolder(path) {
  try {
    return readdirSync(path);
  } catch {
    // No /proc on this system.
    return [];
  }
}

function read(path) {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    // The process ended, or is another user's.
    return '';
  }
}
