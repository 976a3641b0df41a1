import type { Logger } from '@lambda-fleet/common/logger';
import { ABANDONED_AFTER_S, type BuildTable } from './build-table.js';

const OLD_EVERY_ROUNDS = 60;

/** Ends builds whose replica is gone, about once a minute, and removes old ones, about once an hour. Every replica does. */
export class BuildSweep {
  readonly #timer: NodeJS.Timeout;
  #rounds = 0;

  constructor(
    private readonly table: BuildTable,
    private readonly log: Logger,
  ) {
    this.#timer = setInterval(() => void this.run(), ABANDONED_AFTER_S * 1_000);
    this.#timer.unref();
  }

  close(): void {
    clearInterval(this.#timer);
  }

  async run(): Promise<void> {
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
