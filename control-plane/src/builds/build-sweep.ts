import type { Logger } from '@lambda-fleet/common/logger';
import { Sweep } from '../db/sweep.js';
import type { BuildTable } from './build-table.js';

const INTERVAL_MS = 10_000;
const OLD_EVERY_ROUNDS = 360;

/** Ends builds whose replica is gone, and removes old ones, about once an hour. */
export class BuildSweep extends Sweep {
  #rounds = 0;

  constructor(
    private readonly table: BuildTable,
    log: Logger,
  ) {
    super('build', INTERVAL_MS, log);
  }

  protected async sweep(): Promise<number> {
    const abandoned = await this.table.failAbandoned();
    if (abandoned > 0) this.log.warn({ abandoned }, 'builds_abandoned');
    this.#rounds += 1;
    return this.#rounds % OLD_EVERY_ROUNDS === 1 ? this.table.removeOld() : 0;
  }
}
