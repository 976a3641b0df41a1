import { ASYNC_PAYLOAD_BYTES_MAX } from '@lambda-fleet/common/limits';
import { segment } from '../api/client.js';
import { idempotencyHeader } from '../api/idempotency-header.js';
import type { ServerFlags } from '../find-server.js';
import { readJsonArgument } from '../read-json-argument.js';
import type { Session } from '../session.js';
import { printable } from '../terminal-text.js';

export interface InvokeAsyncOptions extends ServerFlags {
  readonly data?: string;
  readonly deadline?: number;
  readonly idempotencyKey?: string;
}

/** Queues an invocation and prints its id: when that is printed, it is stored. */
export async function invokeAsync(session: Session, name: string, options: InvokeAsyncOptions): Promise<void> {
  const body = await readJsonArgument(session, options.data ?? '{}', 'event', '--data', ASYNC_PAYLOAD_BYTES_MAX);
  const client = session.connect(options);
  const queued = (await client.json({
    method: 'POST',
    path: `/api/functions/${segment(name)}/invocations`,
    query: { mode: 'async' },
    headers: { 'content-type': 'application/json', ...idempotencyHeader(options.idempotencyKey) },
    body,
    deadlineMs: options.deadline,
  })) as { id?: unknown } | undefined;
  if (typeof queued?.id !== 'string') throw client.notOurs();
  const id = printable(queued.id);
  await session.output.data(`${id}\n`);
  session.output.note(`It is queued. See what becomes of it: lambda queue get ${id}`);
}
