import type { Logger } from '@lambda-fleet/common/logger';
import { CgroupParent } from '../host/cgroup-parent.js';
import type { ImageEngine } from './image-engine.js';

/** Of one step. The builder cannot be told, so each container is limited when the engine reports that it was made. */
const PIDS_MAX = 1_024;

/**
 * The containers in which the steps of this agent's builds run. The builder gives them no label and any name; what tells them
 * from all others is their parent cgroup, which is the agent's own and which no step can choose.
 */
export class BuildContainers {
  readonly #cgroupParent: CgroupParent;
  readonly #noted = new Set<string>();
  /** Some may have been made that nobody told of. */
  #missed = false;

  constructor(
    private readonly engine: ImageEngine,
    owner: string,
    cgroupDriver: string,
    private readonly log: Logger,
  ) {
    this.#cgroupParent = new CgroupParent('builds', owner, cgroupDriver);
  }

  get cgroupParent(): string {
    return this.#cgroupParent.name;
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
    await this.#cgroupParent.remove();
  }

  /** Looks at every container of the engine and removes those of this agent's builds. Returns how many. */
  async removeLeftovers(): Promise<number> {
    let removed = 0;
    for (const id of await this.engine.containerIds()) {
      if (!(await this.#isOurs(id))) continue;
      await this.engine.removeContainer(id);
      removed += 1;
    }
    await this.#cgroupParent.remove();
    return removed;
  }

  async #note(id: string): Promise<void> {
    try {
      if (!(await this.#isOurs(id))) return;
      this.#noted.add(id);
      this.#cgroupParent.yieldToOthers();
      await this.engine.limitProcesses(id, PIDS_MAX);
    } catch (err) {
      // A short step is over before it can be limited.
      this.log.debug({ err, container: id }, 'build_container_not_limited');
    }
  }

  async #isOurs(id: string): Promise<boolean> {
    return (await this.engine.inspectContainer(id))?.HostConfig.CgroupParent === this.cgroupParent;
  }
}
