import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { errorText } from '@lambda-fleet/common/errors';
import type { LogFeed } from './log-feed.js';
import { type LogFilter, matches } from './log-filter.js';
import { logLineOf, type StoredLogLine } from './log-line.js';
import type { LogTable } from './log-table.js';

export interface FollowOptions {
  readonly table: LogTable;
  readonly feed: LogFeed;
  readonly projectId: string;
  readonly functionId: string;
  /** Lines after this one; undefined: from now on. */
  readonly after: number | undefined;
  readonly filter: LogFilter;
  /** Ends the stream, for a server that stops. */
  readonly signal: AbortSignal;
}

const BACKLOG_PAGE = 500;
/** Lines that come while one page is sent. A client that is so slow is told. */
const UNREAD_MAX = 2_000;
const UNREAD_BYTES_MAX = 1024 * 1024;
/** Also asks the database, for lines that another replica committed. */
const POLL_MS = 1_000;
const HEARTBEAT_MS = 15_000;
const DRAIN_DEADLINE_MS = 30_000;

/**
 * Sends a function's log lines as server-sent events until the client leaves.
 *
 * Every line comes from the database, in the order of ids, which is that of their commits, whichever replica made them:
 * the feed only says when to look. States: catching up (page by page) ⇄ live (waiting for the feed or the poll) → closed.
 * A client that reads too slowly is told so and dropped; it can resume with `last-event-id`.
 *
 * @throws FleetError `unavailable`, before anything was sent
 */
export async function followLogs(res: ServerResponse, options: FollowOptions): Promise<void> {
  const { table, feed, projectId, functionId, filter, signal } = options;
  // Before the headers: whoever has them may rely on seeing every line from then on.
  let lastId = options.after ?? (await table.lastId(projectId, functionId));
  res.writeHead(200, {
    'content-type': 'text/event-stream',
    'cache-control': 'no-store',
    // Proxies that buffer would hold lines back.
    'x-accel-buffering': 'no',
  });
  res.flushHeaders();

  const closed = new AbortController();
  let wake = () => {};
  const close = () => {
    closed.abort();
    wake();
  };
  res.once('close', close);
  signal.addEventListener('abort', close, { once: true });
  /** What was committed here while a page was sent: a client that takes long for one is far behind by then. */
  const unread = { lines: 0, bytes: 0 };
  /** Whether anything was committed here since the last look. */
  let news = false;
  const stopHearing = feed.follow(functionId, (lines) => {
    for (const line of lines) {
      if (!matches(line, filter)) continue;
      news = true;
      unread.lines += 1;
      unread.bytes += line.text.length;
    }
    wake();
  });
  const heartbeat = setInterval(() => void (res.writableNeedDrain || res.write(': still here\n\n')), HEARTBEAT_MS);

  try {
    const send = async (lines: readonly StoredLogLine[]): Promise<void> => {
      for (const line of lines) {
        if (line.id <= lastId || closed.signal.aborted) continue;
        lastId = line.id;
        if (!matches(line, filter)) continue;
        if (!res.write(`event: log\nid: ${line.id}\ndata: ${JSON.stringify(logLineOf(line))}\n\n`)) {
          await once(res, 'drain', {
            signal: AbortSignal.any([closed.signal, AbortSignal.timeout(DRAIN_DEADLINE_MS)]),
          });
        }
      }
    };
    while (!closed.signal.aborted) {
      news = false;
      // Those that are not wanted too: else each look would go through all of them again.
      const page = await table.after(projectId, functionId, lastId, BACKLOG_PAGE);
      // How long the database took for it is not the client's fault.
      Object.assign(unread, { lines: 0, bytes: 0 });
      await send(page);
      if (unread.lines > UNREAD_MAX || unread.bytes > UNREAD_BYTES_MAX) {
        res.end(`event: dropped\ndata: {"reason":"slow_client","resumeAfter":${lastId}}\n\n`);
        return;
      }
      if (page.length === BACKLOG_PAGE || news || closed.signal.aborted) continue;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, POLL_MS);
        wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    res.end();
  } catch (err) {
    if (closed.signal.aborted) return;
    // The client reconnects and resumes; it only has to know that this was not the end of the log.
    res.end(`event: dropped\ndata: ${JSON.stringify({ reason: errorText(err) })}\n\n`);
  } finally {
    clearInterval(heartbeat);
    stopHearing();
    signal.removeEventListener('abort', close);
    if (!res.writableFinished) setTimeout(() => res.destroy(), 5_000).unref();
  }
}
