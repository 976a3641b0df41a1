import type { Logger } from '@lambda-fleet/common/logger';
import type { Database } from '../db/database.js';
import { nextStep, rollStep } from './roll-executions.js';

const INTERVAL_MS = 10_000;

/** Executions of one statement: 0.2 s of work, or 0.9 s when they are of 2,000 functions; a statement may take five. */
const ROWS_MAX = 25_000;
const ROWS_MIN = 1_000;

/**
 * Adds executions to the figures of their minutes and hours some seconds after they were recorded. What has been added is
 * in the database, so any number of replicas may do it at once, and each may die at any time: every execution is added
 * once. After a long time in which nobody did, it goes on where it stopped, and stretches without executions cost nothing.
 */
export class MetricRoller {
  readonly #timer: NodeJS.Timeout;
  #running: Promise<number> | undefined;
  #closed = false;
  #rowsMax = ROWS_MAX;

  constructor(
    private readonly database: Database,
    private readonly log: Logger,
  ) {
    this.#timer = setInterval(() => void this.run(), INTERVAL_MS);
    this.#timer.unref();
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#timer);
    await this.#running;
  }

  /** How many executions it added. Never rejects. */
  run(): Promise<number> {
    this.#running ??= this.#roll().finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  async #roll(): Promise<number> {
    let executions = 0;
    try {
      for (let more = true; more && !this.#closed; ) {
        const step = await nextStep(this.database, this.#rowsMax);
        const added = step && (await rollStep(this.database, step));
        executions += added ?? 0;
        more = added !== undefined && step?.more === true;
        // Slowly: a step that is too long costs five seconds for nothing.
        this.#rowsMax = Math.min(ROWS_MAX, this.#rowsMax + ROWS_MIN);
      }
    } catch (err) {
      // The next round finds the same executions. If they were too many for a slow server, it tries fewer.
      this.#rowsMax = Math.max(ROWS_MIN, Math.floor(this.#rowsMax / 2));
      this.log.warn({ err }, 'metrics_not_rolled');
    }
    return executions;
  }
}
