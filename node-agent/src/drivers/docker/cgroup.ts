import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { SandboxUsage } from '../sandbox-driver.js';

const CGROUP_ROOT = '/sys/fs/cgroup';
const READ_BYTES = 4096;

/**
 * Reads a container's cgroup through descriptors that stay open: a read costs 2 µs, so it can be done before and after
 * every invocation. All methods answer undefined once the cgroup is gone.
 */
export interface Cgroup {
  usage(): SandboxUsage | undefined;
  resetPeak(): void;
  /** How often the kernel has killed in this cgroup because of its memory limit. */
  memoryKills(): number | undefined;
  close(): void;
}

/** Where a container's cgroup stands, by the process table; undefined when the engine runs on another machine. */
export interface CgroupPlace {
  readonly version: 1 | 2;
  readonly memory: string;
  readonly cpu: string;
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
  const memory = paths.get('memory');
  const cpu = paths.get('cpuacct');
  if (memory !== undefined && cpu !== undefined) {
    return { version: 1, memory: join(CGROUP_ROOT, 'memory', memory), cpu: join(CGROUP_ROOT, 'cpuacct', cpu) };
  }
  const unified = paths.get('');
  if (unified === undefined) return undefined;
  return { version: 2, memory: join(CGROUP_ROOT, unified), cpu: join(CGROUP_ROOT, unified) };
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
    close: () => closeAll(cpu, peak, events),
  };
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
