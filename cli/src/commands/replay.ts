import { segment } from '../api/client.js';
import type { ServerFlags } from '../find-server.js';
import type { Session } from '../session.js';
import { printable } from '../terminal-text.js';

export interface ReplayOptions extends ServerFlags {
  /** Of the function; the newest without it. */
  readonly onVersion?: number;
}

/** Queues the event of an execution again, and prints the id of what will run. */
export async function replayExecution(session: Session, id: string, options: ReplayOptions): Promise<void> {
  const client = session.connect(options);
  const body = Buffer.from(JSON.stringify({ version: options.onVersion }));
  const headers = { 'content-type': 'application/json' };
  const answer = (await client.json({
    ...{ method: 'POST', path: `/api/executions/${segment(id)}/replay`, headers, body },
  })) as { id?: unknown } | null | undefined;
  if (typeof answer?.id !== 'string') throw client.notOurs();
  const queued = printable(answer.id);
  await session.output.data(`${queued}\n`);
  session.output.note(`It is queued. See what becomes of it: lambda executions get ${queued}`);
}
