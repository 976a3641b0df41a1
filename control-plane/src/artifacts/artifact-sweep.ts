import type { Logger } from '@lambda-fleet/common/logger';
import { Sweep } from '../db/sweep.js';
import type { PostgresArtifactStore } from './postgres-artifact-store.js';

const INTERVAL_MS = 60 * 60_000;

/** Removes archives that no version uses (failed uploads, deleted functions). */
export class ArtifactSweep extends Sweep {
  constructor(
    private readonly artifacts: PostgresArtifactStore,
    log: Logger,
  ) {
    super('artifact', INTERVAL_MS, log);
  }

  protected sweep(): Promise<number> {
    return this.artifacts.removeUnused();
  }
}
