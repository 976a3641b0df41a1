import type { Logger } from '@lambda-fleet/common/logger';
import type { PostgresArtifactStore } from './postgres-artifact-store.js';

const INTERVAL_MS = 60 * 60_000;

/** Removes archives that no version uses (failed uploads, deleted functions) once an hour. */
export class ArtifactSweep {
  readonly #timer: NodeJS.Timeout;

  constructor(
    private readonly artifacts: PostgresArtifactStore,
    private readonly log: Logger,
  ) {
    this.#timer = setInterval(() => void this.#run(), INTERVAL_MS);
    this.#timer.unref();
  }

  close(): void {
    clearInterval(this.#timer);
  }

  async #run(): Promise<void> {
    try {
      const removed = await this.artifacts.removeUnused();
      if (removed > 0) this.log.info({ removed }, 'artifacts_removed');
    } catch (err) {
      // The next round finds the same archives.
      this.log.warn({ err }, 'artifact_sweep_failed');
    }
  }
}
