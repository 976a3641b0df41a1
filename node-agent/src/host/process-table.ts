import { readFileSync, writeFileSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';

/** Reads of Linux's `/proc`. Everything is undefined for a process that is gone, and on systems without `/proc`. */

const PAGE_BYTES = 4096;
/** The kernel reports processor time in hundredths of a second, whatever its own tick is. */
const TICK_US = 10_000;

/** Memory that belongs to the process alone: what it allocated, without files and libraries that it maps. */
export function privateMemoryBytes(pid: number): number | undefined {
  const [, resident, shared] = read(`/proc/${pid}/statm`)?.split(' ') ?? [];
  return resident === undefined || shared === undefined ? undefined : (Number(resident) - Number(shared)) * PAGE_BYTES;
}

export function processorTimeUs(pid: number): number | undefined {
  // The name in parentheses may hold spaces and parentheses itself, so count from its end.
  const stat = read(`/proc/${pid}/stat`);
  const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ');
  const user = fields?.[11];
  const system = fields?.[12];
  return user === undefined || system === undefined ? undefined : (Number(user) + Number(system)) * TICK_US;
}

/** Largest resident size since {@link resetPeakMemory}. */
export function peakMemoryBytes(pid: number): number | undefined {
  const kilobytes = /^VmHWM:\s+(\d+) kB$/m.exec(read(`/proc/${pid}/status`) ?? '')?.[1];
  return kilobytes === undefined ? undefined : Number(kilobytes) * 1024;
}

export function resetPeakMemory(pid: number): void {
  try {
    writeFileSync(`/proc/${pid}/clear_refs`, '5');
  } catch {
    // Gone, or another user's process: the peak is then that of its whole life.
  }
}

/** The oldest child of a process. */
export function firstChild(pid: number): number | undefined {
  const first = read(`/proc/${pid}/task/${pid}/children`)?.split(' ', 1)[0];
  return first === undefined || first === '' ? undefined : Number(first);
}

export interface MarkedProcess {
  readonly pid: number;
  readonly environment: readonly string[];
}

/** Processes whose environment at start held the entry `marker` (`NAME=value`). */
export async function findMarkedProcesses(marker: string): Promise<readonly MarkedProcess[]> {
  const names = await readdir('/proc').catch(() => []);
  const pids = names.filter((name) => /^\d+$/.test(name)).map(Number);
  const found: MarkedProcess[] = [];
  for (const pid of pids) {
    // Unreadable ones are other users' or gone; neither can be ours.
    const text = await readFile(`/proc/${pid}/environ`, 'utf8').catch(() => '');
    const environment = text.split('\0');
    if (environment.includes(marker)) found.push({ pid, environment });
  }
  return found;
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return undefined;
  }
}
