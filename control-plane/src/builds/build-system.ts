import type { Database } from '../db/database.js';
import { BuildFeed } from './build-feed.js';
import { BuildLogs } from './build-log.js';
import { BuildRunner, type BuildRunnerOptions } from './build-runner.js';
import { BuildSweep } from './build-sweep.js';
import { BuildTable } from './build-table.js';

export interface BuildSystem {
  readonly table: BuildTable;
  readonly feed: BuildFeed;
  readonly runner: BuildRunner;
  close(): Promise<void>;
}

export interface BuildSystemOptions extends Omit<BuildRunnerOptions, 'table' | 'logs' | 'feed'> {
  readonly database: Database;
}

export function createBuildSystem({ database, ...options }: BuildSystemOptions): BuildSystem {
  const { log } = options;
  const table = new BuildTable(database);
  const feed = new BuildFeed();
  const logs = new BuildLogs({
    insert: (lines) => table.appendLines(lines),
    onCommitted: (buildId) => feed.changed(buildId),
    log,
  });
  const sweep = new BuildSweep(table, log);
  const runner = new BuildRunner({ ...options, table, logs, feed });
  return {
    table,
    feed,
    runner,
    close: async () => {
      await runner.close();
      sweep.close();
      await logs.close();
    },
  };
}
