import { setTimeout as delay } from 'node:timers/promises';
import { Backoff } from '@lambda-fleet/common/backoff';
import { type ApiClient, ApiError, segment } from '../api/client.js';
import { readEventStream } from '../api/event-stream.js';
import { isLogLine, type LogLine } from '../api/resources.js';
import type { ServerFlags } from '../find-server.js';
import type { Output } from '../output.js';
import type { Session } from '../session.js';
import { printable } from '../terminal-text.js';

export interface LogsOptions extends ServerFlags {
  readonly follow?: boolean;
  readonly since?: string;
  /** Part of a line's text. */
  readonly search?: string;
  readonly requestId?: string;
  readonly limit: number;
  readonly raw?: boolean;
  readonly output: 'table' | 'json' | 'name';
}

/** Prints a function's newest log lines, oldest first, and with `follow` goes on until it is interrupted. */
export async function logs(session: Session, name: string, options: LogsOptions): Promise<void> {
  const client = session.connect(options);
  const print = printer(session.output, options);
  const path = `/api/functions/${segment(name)}/logs`;
  const wanted = { search: options.search, requestId: options.requestId };
  const page = (await client.json({
    method: 'GET',
    path,
    query: { ...wanted, limit: options.limit, since: options.since },
  })) as { logs?: unknown; lastId?: unknown } | null | undefined;
  if (!Array.isArray(page?.logs)) throw client.notOurs();
  for (const line of page.logs) {
    if (!isLogLine(line)) throw client.notOurs();
    await print(line);
  }
  if (options.follow !== true) {
    if (page.logs.length === 0) session.output.note('No log lines yet.');
    return;
  }
  const after = typeof page.lastId === 'number' ? String(page.lastId) : undefined;
  await followLogs(client, path, { ...wanted, after }, print, session.output);
}

interface FollowQuery {
  readonly after: string | undefined;
  readonly search: string | undefined;
  readonly requestId: string | undefined;
}

/**
 * Reads the event stream and opens it again, after the last line that was
 * printed, whenever the connection ends: a restart of the server is a pause.
 */
async function followLogs(
  client: ApiClient,
  path: string,
  { after, ...wanted }: FollowQuery,
  print: (line: LogLine) => Promise<void>,
  output: Output,
): Promise<never> {
  const backoff = new Backoff({ firstMs: 250, capMs: 5_000 });
  const forever = new AbortController().signal;
  let last = after;
  let saidLost = false;
  for (;;) {
    try {
      const headers = { accept: 'text/event-stream', ...(last === undefined ? {} : { 'last-event-id': last }) };
      const stream = await client.stream(
        { method: 'GET', path, query: { ...wanted, follow: 'true', after: last }, headers },
        forever,
      );
      // Half-open connections (a laptop that slept) are noticed by the system's keep-alive probes.
      stream.socket.setKeepAlive(true, 15_000);
      if (saidLost) output.note('Connected again.');
      saidLost = false;
      backoff.reset();
      for await (const { event, id, data } of readEventStream(stream)) {
        if (event !== 'log') continue;
        const line = JSON.parse(data) as unknown;
        if (isLogLine(line)) await print(line);
        if (id !== '') last = id;
      }
    } catch (err) {
      // The server's own refusals (no such function, wrong key) do not get better by asking again.
      if (err instanceof ApiError && err.status < 500) throw err;
      if (!saidLost)
        output.note(`The connection was lost (${err instanceof Error ? err.message : String(err)}); trying again …`);
      saidLost = true;
    }
    await delay(backoff.next());
  }
}

function printer(output: Output, options: LogsOptions): (line: LogLine) => Promise<void> {
  if (options.output === 'json') return (line) => output.data(`${JSON.stringify(line)}\n`);
  return (line) => {
    const text = options.raw === true ? line.text : printable(line.text);
    const time = printable(line.at).replace('T', ' ').replace('Z', '');
    const mark = line.stream === 'stdout' ? '' : ` ${printable(line.stream)}`;
    const head = output.dataIsTerminal ? output.colors.dim(`${time}${mark}`) : `${time}${mark}`;
    // A text of several lines stays one entry: what follows is indented and cannot pass for an entry of its own.
    return output.data(`${head}  ${options.raw === true ? text : text.replaceAll('\n', '\n    ')}\n`);
  };
}
