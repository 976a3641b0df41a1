import { access, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { CrashPoint } from '@lambda-fleet/common/crash-points';
import type { Fleet } from './fleet.js';
import { descendantsOf } from './processes.js';

const VICTIMS = {
  'control plane': 'control-plane/dist/main.js',
  agent: 'node-agent/dist/main.js',
  PostgreSQL: 'postgres',
} as const;

export type Victim = keyof typeof VICTIMS;

/** Numbers from 0 to 1 that are the same for the same seed. (Mulberry32.) */
export function seeded(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Kills one process of a running system, by SIGKILL, and waits until the system serves again. */
export async function killOne(fleet: Fleet, victim: Victim): Promise<void> {
  const found = (await descendantsOf(fleet.process.pid ?? 0))
    .filter(({ command }) => command.includes(VICTIMS[victim]))
    .sort((a, b) => a.pid - b.pid)[0];
  if (found === undefined) throw new Error(`no process is ${victim}`);
  process.kill(found.pid, 'SIGKILL');
  // Its supervisor has to notice first.
  await sleep(100);
  await fleet.recovered();
}

/** Has the control plane killed at its next passage of `point`, and waits until the system serves again. */
export async function crashAt(fleet: Fleet, crashFile: string, point: CrashPoint): Promise<void> {
  await writeFile(crashFile, point);
  const giveUpAt = Date.now() + 30_000;
  while (await exists(crashFile)) {
    if (Date.now() > giveUpAt) throw new Error(`the control plane did not pass ${point} in 30 s`);
    await sleep(20);
  }
  await sleep(100);
  await fleet.recovered();
}

function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
