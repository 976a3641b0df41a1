import { readdir, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from '@lambda-fleet/common/logger';
import type { ImageEngine } from './image-engine.js';

/** Of one step. The builder cannot be told, so each container is limited when the engine reports that it was made. */
const PIDS_MAX = 1_024;

const CGROUP_ROOT = '/sys/fs/cgroup';

/**
 * The containers in which the steps of this agent's builds run. The builder gives them no label and any name; what tells them
 * from all others is their parent cgroup, which is the agent's own and which no step can choose.
 */
export class BuildContainers {
  readonly cgroupParent: string;
  readonly #noted = new Set<string>();
  /** Some may have been made that nobody told of. */
  #missed = false;

  constructor(
    private readonly engine: ImageEngine,
    owner: string,
    private readonly cgroupDriver: string,
    private readonly log: Logger,
  ) {
    this.cgroupParent = cgroupDriver === 'systemd' ? `lambda-build-${owner}.slice` : `/lambda-build-${owner}`;
  }

  /** Notes and limits each from now on, until the signal is aborted. Resolves when it listens. */
  async watch(signal: AbortSignal): Promise<void> {
    const containers = await this.engine.newContainers(signal);
    void (async () => {
      try {
        for await (const id of containers) await this.#note(id);
      } catch (err) {
        if (!signal.aborted) this.log.error({ err }, 'build_containers_not_watched');
      }
      if (!signal.aborted) this.#missed = true;
    })();
  }

  /** Removes those that were noted, and that are still there. */
  async remove(): Promise<void> {
    if (this.#missed) await this.removeLeftovers();
    this.#missed = false;
    for (const id of this.#noted) await this.engine.removeContainer(id);
    this.#noted.clear();
    await this.#removeCgroup();
  }

  /** Looks at every container of the engine and removes those of this agent's builds. Returns how many. */
  async removeLeftovers(): Promise<number> {
    let removed = 0;
    for (const id of await this.engine.containerIds()) {
      if (!(await this.#isOurs(id))) continue;
      await this.engine.removeContainer(id);
      removed += 1;
    }
    await this.#removeCgroup();
    return removed;
  }

  async #note(id: string): Promise<void> {
    try {
      if (!(await this.#isOurs(id))) return;
      this.#noted.add(id);
      await this.engine.limitProcesses(id, PIDS_MAX);
    } catch (err) {
      // A short step is over before it can be limited.
      this.log.debug({ err, container: id }, 'build_container_not_limited');
    }
  }

  async #isOurs(id: string): Promise<boolean> {
    return (await this.engine.inspectContainer(id))?.HostConfig.CgroupParent === this.cgroupParent;
  }

  /** The engine leaves the parent behind, one folder for each controller. Best effort: it is used again. */
  async #removeCgroup(): Promise<void> {
    if (this.cgroupDriver !== 'cgroupfs') return;
    for (const name of await readdir(CGROUP_ROOT).catch(() => [])) {
      await rmdir(join(CGROUP_ROOT, name, this.cgroupParent)).catch(() => undefined);
    }
    await rmdir(join(CGROUP_ROOT, this.cgroupParent)).catch(() => undefined);
  }
}
