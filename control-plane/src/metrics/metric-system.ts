import type { Logger } from '@lambda-fleet/common/logger';
import type { Database } from '../db/database.js';
import { MetricRoller } from './metric-roller.js';
import { MetricSweep } from './metric-sweep.js';
import { ThrottleCounter } from './throttle-counter.js';

export interface MetricSystem {
  readonly throttles: ThrottleCounter;
  close(): Promise<void>;
}

const RETENTION = { minuteDays: 7, hourDays: 90 };

/** What adds up the figures of functions in the database, and forgets old ones. */
export function createMetricSystem(database: Database, log: Logger): MetricSystem {
  const roller = new MetricRoller(database, log);
  const sweep = new MetricSweep(database, RETENTION, log);
  const throttles = new ThrottleCounter(database, log);
  return {
    throttles,
    close: async () => {
      await throttles.close();
      sweep.close();
      await roller.close();
    },
  };
}
