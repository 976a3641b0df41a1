import { readFileSync } from 'node:fs';

/** What the kernel could give to programs without swapping, bytes; undefined where it does not say. */
export function availableMemoryBytes(): number | undefined {
  try {
    const kilobytes = /^MemAvailable:\s+(\d+) kB$/m.exec(readFileSync('/proc/meminfo', 'latin1'))?.[1];
    return kilobytes === undefined ? undefined : Number(kilobytes) * 1024;
  } catch {
    return undefined;
  }
}
