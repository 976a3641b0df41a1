import type { Logger } from '@lambda-fleet/common/logger';
import type { QueueLimits } from '../async/enqueue.js';
import type { Database } from '../db/database.js';
import { DueTicks } from './due-ticks.js';
import { ScheduleTable } from './schedule-table.js';
import { ScheduleTicker } from './schedule-ticker.js';
import { Schedules } from './schedules.js';
import { TickHistory } from './tick-history.js';
import { TickSweep } from './tick-sweep.js';

export interface ScheduleSystem {
  readonly schedules: Schedules;
  close(): Promise<void>;
}

const PER_PROJECT_MAX = 1_000;
const TICK_RETENTION = { days: 30, perScheduleMax: 1_000 };

/** Begins to keep time. @param limits of the queue that ticks go to */
export function createScheduleSystem(database: Database, limits: QueueLimits, log: Logger): ScheduleSystem {
  const due = new DueTicks(database, limits);
  const ticker = new ScheduleTicker(due, log);
  ticker.start();
  const sweep = new TickSweep(database, TICK_RETENTION, log);
  return {
    schedules: new Schedules({
      ...{ table: new ScheduleTable(database), due, history: new TickHistory(database), ticker },
      perProjectMax: PER_PROJECT_MAX,
    }),
    close: async () => {
      sweep.close();
      await ticker.close();
    },
  };
}
