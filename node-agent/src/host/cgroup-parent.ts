import { writeFileSync } from 'node:fs';
import { readdir, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { YIELDING } from './processor-weights.js';

const CGROUP_ROOT = '/sys/fs/cgroup';
const WEIGHTS = [
  { controller: 'cpu', file: 'cpu.shares', value: YIELDING.version1 },
  { controller: '', file: 'cpu.weight', value: YIELDING.version2 },
] as const;

/**
 * The cgroup that holds the containers of one agent, for one purpose. They are the platform's guests: together they
 * yield to the rest of the machine, and use all that it leaves. Measured on two processors beside one sandbox that keeps both
 * busy: where all sandboxes weighed as much as one other program, agent and control plane waited up to a second for their turn.
 */
export class CgroupParent {
  /** As an engine is told. */
  readonly name: string;

  /**
   * @param engineDriver `cgroupfs` or `systemd`: how the engine wants parents named. A dash in a slice's name would put it
   * into another slice, which has a weight of its own.
   */
  constructor(
    purpose: 'sandboxes' | 'builds',
    owner: string,
    private readonly engineDriver: string,
    private readonly root = CGROUP_ROOT,
  ) {
    this.name = engineDriver === 'systemd' ? `lambda_${purpose}_${owner}.slice` : `/lambda-${purpose}-${owner}`;
  }

  /**
   * Once the engine has made it; again whenever it may have been made anew. Does nothing where cgroups cannot be reached or
   * written: then sandboxes have the weight that engines give.
   */
  yieldToOthers(): void {
    for (const { controller, file, value } of WEIGHTS) {
      try {
        writeFileSync(join(this.root, controller, this.name, file), value, { flag: 'r+' });
      } catch {
        // The other version's file, or not this machine's engine.
      }
    }
  }

  /** Engines leave it behind, one folder for each controller. Nothing happens while something is in it. */
  async remove(): Promise<void> {
    if (this.engineDriver !== 'cgroupfs') return;
    for (const controller of await readdir(this.root).catch(() => [])) {
      await rmdir(join(this.root, controller, this.name)).catch(() => undefined);
    }
    await rmdir(join(this.root, this.name)).catch(() => undefined);
  }
}
