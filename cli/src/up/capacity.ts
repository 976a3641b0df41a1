import { availableParallelism, totalmem } from 'node:os';
import { usageError } from '../cli-error.js';
import type { Config } from '../config.js';

export interface NodeCapacity {
  readonly memoryMb: number;
  readonly slots: number;
}

/** The rest is for the system, PostgreSQL and the fleet's own processes. */
const MEMORY_SHARE = 0.75;
/** Functions mostly wait; memory is the limit that counts. */
const SLOTS_PER_CPU = 16;

/** What each of `nodes` agents may hand out, so that together they do not promise the machine twice. */
export function nodeCapacity(config: Config, nodes: number): NodeCapacity {
  const memoryMb = setting('LAMBDA_MEMORY_MB', config.memoryMb) ?? (machineMemoryBytes() / 1024 / 1024) * MEMORY_SHARE;
  const slots = setting('LAMBDA_SLOTS', config.slots) ?? availableParallelism() * SLOTS_PER_CPU;
  return { memoryMb: Math.max(64, Math.floor(memoryMb / nodes)), slots: Math.max(1, Math.floor(slots / nodes)) };
}

/** The machine's memory, or the limit of the container that this runs in. */
function machineMemoryBytes(): number {
  const limit = process.constrainedMemory();
  return limit > 0 && limit < totalmem() ? limit : totalmem();
}

function setting(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw usageError(`${name} must be a whole number above 0, not "${text}".`);
  return value;
}
