import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** What the process holds after everything unneeded was collected, bytes. */
export interface HeldMemory {
  /** Objects, and buffers outside of the heap. */
  readonly bytes: number;
  readonly rssBytes: number;
}

export function heldMemory(): HeldMemory {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  // What one collection releases another one may find unneeded.
  collect();
  collect();
  const { heapUsed, external, rss } = process.memoryUsage();
  return { bytes: heapUsed + external, rssBytes: rss };
}
