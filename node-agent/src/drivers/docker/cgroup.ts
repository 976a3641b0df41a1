import { closeSync, existsSync, openSync, readFileSync, readSync, writeFileSync, writeSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { EQUAL, YIELDING } from '../../host/processor-weights.js';
import type { SandboxLimits, SandboxUsage } from '../sandbox-driver.js';

const CGROUP_ROOT = '/sys/fs/cgroup';
const READ_BYTES = 4096;
const MB = 1024 * 1024;
export const CPU_PERIOD_US = 100_000;
/** The kernel refuses less. */
const CPU_QUOTA_US_MIN = 1_000;

/**
 * Reads a container's cgroup through descriptors that stay open: a read costs 2 µs, so it can be done before and after
 * every invocation. All methods answer undefined once the cgroup is gone.
 */
export interface Cgroup {
  usage(): SandboxUsage | undefined;
  resetPeak(): void;
  /** How often the kernel has killed in this cgroup because of its memory limit. */
  memoryKills(): number | undefined;
  /** Throws when the kernel refuses: the cgroup is gone, or uses more than it is to have. */
  setLimits(limits: SandboxLimits): void;
  /** Whether it weighs less than its siblings. Does nothing when the cgroup is gone. */
  setYielding(yielding: boolean): void;
  /** Does nothing when the cgroup is gone. Takes 0.3–2 ms, thawing as well. */
  setFrozen(frozen: boolean): void;
  close(): void;
}

/** Where a container's cgroup stands, by the process table; undefined when the engine runs on another machine. */
export interface CgroupPlace {
  readonly version: 1 | 2;
  readonly memory: string;
  /** Where processor time is counted. */
  readonly cpu: string;
  /** Where processor time is limited; of its own in version 1 only. */
  readonly cpuQuota: string;
  readonly freezer: string;
}

export async function locateCgroup(pid: number, containerId: string): Promise<CgroupPlace | undefined> {
  let lines: string[];
  try {
    lines = (await readFile(`/proc/${pid}/cgroup`, 'utf8')).split('\n');
  } catch {
    // The process is gone, or of another machine.
    return undefined;
  }
  const paths = new Map<string, string>();
  for (const line of lines) {
    const [, controllers, path] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    // A path without the container's id would be some other process's group: a pid of another machine.
    if (controllers === undefined || path === undefined || !path.includes(containerId)) continue;
    for (const controller of controllers.split(',')) paths.set(controller, path);
  }
  const folder = (controller: string): string | undefined => {
    const path = paths.get(controller);
    return path === undefined ? undefined : join(CGROUP_ROOT, controller, path);
  };
  const memory = folder('memory');
  const cpu = folder('cpuacct');
  const cpuQuota = folder('cpu');
  const freezer = folder('freezer');
  if (memory !== undefined && cpu !== undefined && cpuQuota !== undefined && freezer !== undefined) {
    return { version: 1, memory, cpu, cpuQuota, freezer };
  }
  const unified = paths.get('');
  if (unified === undefined) return undefined;
  const place = join(CGROUP_ROOT, unified);
  return { version: 2, memory: place, cpu: place, cpuQuota: place, freezer: place };
}

/** A quota instead of a share, also above the host's own number of processors. */
export function cpuQuotaUs(cpus: number): number {
  return Math.max(CPU_QUOTA_US_MIN, Math.round(cpus * CPU_PERIOD_US));
}

export function openCgroup(place: CgroupPlace): Cgroup {
  return place.version === 1 ? openVersion1(place) : openVersion2(place);
}

function openVersion1(place: CgroupPlace): Cgroup {
  const cpu = new KeptFile(join(place.cpu, 'cpuacct.usage'));
  const peak = new KeptFile(join(place.memory, 'memory.max_usage_in_bytes'), 'r+');
  const control = new KeptFile(join(place.memory, 'memory.oom_control'));
  return {
    usage: () => asUsage(nanosecondsToMicroseconds(cpu.number()), peak.number()),
    resetPeak: () => peak.write('0'),
    memoryKills: () => control.field('oom_kill'),
    setLimits: ({ memoryMb, cpus }) => {
      const bytes = memoryMb * MB;
      const limit = join(place.memory, 'memory.limit_in_bytes');
      // Absent where the kernel does not account for swap.
      const withSwap = join(place.memory, 'memory.memsw.limit_in_bytes');
      // The limit with swap may never be the lower one.
      const raised = Number.parseInt(readFileSync(limit, 'latin1'), 10) <= bytes;
      for (const file of raised ? [withSwap, limit] : [limit, withSwap]) {
        if (file === limit || existsSync(file)) writeFileSync(file, String(bytes));
      }
      writeFileSync(join(place.cpuQuota, 'cpu.cfs_quota_us'), String(cpuQuotaUs(cpus)));
    },
    setYielding: (yielding) => writeIfThere(join(place.cpuQuota, 'cpu.shares'), (yielding ? YIELDING : EQUAL).version1),
    setFrozen: (frozen) => writeIfThere(join(place.freezer, 'freezer.state'), frozen ? 'FROZEN' : 'THAWED'),
    close: () => closeAll(cpu, peak, control),
  };
}

function openVersion2(place: CgroupPlace): Cgroup {
  const cpu = new KeptFile(join(place.cpu, 'cpu.stat'));
  // Writing resets the peak for this descriptor since Linux 6.12; before, the peak is that of the sandbox's life.
  const peak = new KeptFile(join(place.memory, 'memory.peak'), 'r+');
  const events = new KeptFile(join(place.memory, 'memory.events'));
  return {
    usage: () => asUsage(cpu.field('usage_usec'), peak.number()),
    resetPeak: () => peak.write('0'),
    memoryKills: () => events.field('oom_kill'),
    setLimits: ({ memoryMb, cpus }) => {
      writeFileSync(join(place.memory, 'memory.max'), String(memoryMb * MB));
      writeFileSync(join(place.cpuQuota, 'cpu.max'), `${cpuQuotaUs(cpus)} ${CPU_PERIOD_US}`);
    },
    setYielding: (yielding) => writeIfThere(join(place.cpuQuota, 'cpu.weight'), (yielding ? YIELDING : EQUAL).version2),
    setFrozen: (frozen) => writeIfThere(join(place.freezer, 'cgroup.freeze'), frozen ? '1' : '0'),
    close: () => closeAll(cpu, peak, events),
  };
}

/** For a cgroup that is not open: that of a container which an earlier agent left. */
export function thaw(place: CgroupPlace): void {
  if (place.version === 1) writeIfThere(join(place.freezer, 'freezer.state'), 'THAWED');
  else writeIfThere(join(place.freezer, 'cgroup.freeze'), '0');
}

function writeIfThere(path: string, text: string): void {
  try {
    writeFileSync(path, text);
  } catch (err) {
    const code = err instanceof Error && 'code' in err ? err.code : undefined;
    // The sandbox ended by itself.
    if (code !== 'ENOENT' && code !== 'ENODEV') throw err;
  }
}

const nanosecondsToMicroseconds = (value: number | undefined) => (value === undefined ? undefined : value / 1000);

function asUsage(cpuUs: number | undefined, memoryPeakBytes: number | undefined): SandboxUsage | undefined {
  if (cpuUs === undefined || memoryPeakBytes === undefined) return undefined;
  return { cpuUs: Math.round(cpuUs), memoryPeakBytes };
}

function closeAll(...files: readonly KeptFile[]): void {
  for (const file of files) file.close();
}

/** One kernel file, kept open. Errors mean that it is gone or never was, which is what `undefined` says. */
class KeptFile {
  static readonly #buffer = Buffer.alloc(READ_BYTES);
  #fd: number | undefined;

  constructor(path: string, flags: 'r' | 'r+' = 'r') {
    this.#fd = openOrNothing(path, flags) ?? openOrNothing(path, 'r');
  }

  number(): number | undefined {
    const text = this.#read();
    return text === undefined ? undefined : Number.parseInt(text, 10);
  }

  /** The number behind a name at the start of a line. */
  field(name: string): number | undefined {
    const match = this.#read()?.match(new RegExp(`^${name} (\\d+)$`, 'm'));
    return match?.[1] === undefined ? undefined : Number.parseInt(match[1], 10);
  }

  write(text: string): void {
    if (this.#fd === undefined) return;
    try {
      writeSync(this.#fd, text, 0);
    } catch {
      // Not writable on this kernel, or gone.
    }
  }

  close(): void {
    if (this.#fd === undefined) return;
    closeSync(this.#fd);
    this.#fd = undefined;
  }

  #read(): string | undefined {
    if (this.#fd === undefined) return undefined;
    try {
      const bytes = readSync(this.#fd, KeptFile.#buffer, 0, READ_BYTES, 0);
      return KeptFile.#buffer.toString('latin1', 0, bytes);
    } catch {
      return undefined;
    }
  }
}

function openOrNothing(path: string, flags: 'r' | 'r+'): number | undefined {
  try {
    return openSync(path, flags);
  } catch {
    return undefined;
  }
}
