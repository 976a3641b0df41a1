import type { Logger } from '@lambda-fleet/common/logger';
import type { Database } from '../db/database.js';
import { insertLogLines } from './insert-log-lines.js';
import { LogCapture } from './log-capture.js';
import { LogFeed } from './log-feed.js';
import { type LogRetention, LogSweep } from './log-sweep.js';
import { LogTable } from './log-table.js';
import { LogWriter } from './log-writer.js';

export interface LogSystem {
  readonly table: LogTable;
  /** To whoever follows a function. */
  readonly feed: LogFeed;
  /** Of runs whose lines are not stored. */
  readonly capture: LogCapture;
  readonly writer: LogWriter;
  close(): Promise<void>;
}

export function createLogSystem(database: Database, retention: LogRetention, log: Logger): LogSystem {
  const feed = new LogFeed();
  const capture = new LogCapture();
  const writer = new LogWriter({
    insert: (lines) => insertLogLines(database, lines),
    capture,
    onCommitted: (lines) => feed.publish(lines),
    log,
  });
  const sweep = new LogSweep(database, retention, log);
  return {
    ...{ table: new LogTable(database), feed, capture, writer },
    close: async () => {
      sweep.close();
      await writer.close();
    },
  };
}
