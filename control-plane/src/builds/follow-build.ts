import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { errorText } from '@lambda-fleet/common/errors';
import type { BuildFeed } from './build-feed.js';
import { type BuildRecord, isFinished } from './build-record.js';
import type { BuildTable } from './build-table.js';

export interface FollowBuildOptions {
  readonly table: BuildTable;
  readonly feed: BuildFeed;
  readonly projectId: string;
  readonly functionName: string;
  readonly buildId: string;
  /** Lines behind this one; 0 is all. */
  readonly after: number;
  /** Ends the stream, for a server that stops. */
  readonly signal: AbortSignal;
}

const PAGE = 500;
/** Also asks the database by itself, for builds that another replica runs. */
const POLL_MS = 1_000;
const HEARTBEAT_MS = 15_000;
const DRAIN_DEADLINE_MS = 30_000;

/**
 * Sends a build as server-sent events until it has ended and everything was sent: `log` for each line (its id is the line's
 * sequence) and `build` whenever its state has changed. What is sent is always read from the database, so a slow client
 * holds nothing in memory.
 *
 * @throws FleetError `build_not_found`, `unavailable`, before anything was sent
 */
export async function followBuild(res: ServerResponse, options: FollowBuildOptions): Promise<void> {
  const { table, feed, projectId, functionName, buildId, signal } = options;
  const read = () => table.get(projectId, functionName, buildId);
  let record = await read();
  res.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store', 'x-accel-buffering': 'no' });
  res.flushHeaders();

  const closed = new AbortController();
  let wake = () => {};
  let news = false;
  const close = () => {
    closed.abort();
    wake();
  };
  res.once('close', close);
  signal.addEventListener('abort', close, { once: true });
  const stopHearing = feed.follow(buildId, () => {
    news = true;
    wake();
  });
  const heartbeat = setInterval(() => void (res.writableNeedDrain || res.write(': still here\n\n')), HEARTBEAT_MS);
  const send = async (event: string, id: number | undefined, data: object): Promise<void> => {
    const head = id === undefined ? `event: ${event}\n` : `event: ${event}\nid: ${id}\n`;
    if (res.write(`${head}data: ${JSON.stringify(data)}\n\n`)) return;
    await once(res, 'drain', { signal: AbortSignal.any([closed.signal, AbortSignal.timeout(DRAIN_DEADLINE_MS)]) });
  };
  let last = options.after;
  let saidState: BuildRecord['state'] | undefined;
  try {
    while (!closed.signal.aborted) {
      news = false;
      const page = await table.linesAfter(projectId, buildId, last, PAGE);
      for (const line of page) {
        await send('log', line.sequence, line);
        last = line.sequence;
      }
      if (page.length < PAGE) {
        // Behind the lines, as it happened.
        if (record.state !== saidState && !isFinished(record)) await send('build', undefined, record);
        saidState = record.state;
        // All lines of a build are stored before its end is: whoever read the end first has read them all now.
        if (isFinished(record)) {
          await send('build', undefined, record);
          break;
        }
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, news || closed.signal.aborted ? 0 : POLL_MS);
          wake = () => {
            clearTimeout(timer);
            resolve();
          };
        });
      }
      record = await read();
    }
    res.end();
  } catch (err) {
    if (closed.signal.aborted) return;
    // The client comes again and resumes; it only has to know that this was not the end of the build.
    res.end(`event: dropped\ndata: ${JSON.stringify({ reason: errorText(err) })}\n\n`);
  } finally {
    clearInterval(heartbeat);
    stopHearing();
    signal.removeEventListener('abort', close);
    if (!res.writableFinished) setTimeout(() => res.destroy(), 5_000).unref();
  }
}
