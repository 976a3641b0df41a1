import type { Logger } from '@lambda-fleet/common/logger';
import type { BuildTable } from './build-table.js';

const ROUND_MS = 10_000;
const OLD_EVERY_ROUNDS = 360;

/** Ends builds whose replica is gone, every 10 s, and removes old ones, about once an hour. Every replica does. */
export class BuildSweep {
  readonly #timer: NodeJS.Timeout;
  #rounds = 0;

  constructor(
    private readonly table: BuildTable,
    private readonly log: Logger,
  ) {
    this.#timer = setInterval(() => void this.#run(), ROUND_MS);
    this.#timer.unref();
  }

  close(): void {
    clearInterval(this.#timer);
  }

  async #run(): Promise<void> {
    try {
      const abandoned = await this.table.failAbandoned();
      if (abandoned > 0) this.log.warn({ abandoned }, 'builds_abandoned');
      this.#rounds += 1;
      if (this.#rounds % OLD_EVERY_ROUNDS === 1) await this.table.removeOld();
    } catch (err) {
      // The next round finds the same builds.
      this.log.warn({ err }, 'build_sweep_failed');
    }
  }
}
