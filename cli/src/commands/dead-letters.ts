import { type ApiClient, segment } from '../api/client.js';
import { usageError } from '../cli-error.js';
import { confirm } from '../confirm.js';
import type { ServerFlags } from '../find-server.js';
import type { Session } from '../session.js';
import { printable } from '../terminal-text.js';

export interface SelectionOptions extends ServerFlags {
  readonly function?: string;
  readonly condition?: string;
  readonly all?: boolean;
}

export interface PurgeOptions extends SelectionOptions {
  readonly yes?: boolean;
}

/** Of up to a hundred thousand, a few hundred in a statement. */
const MANY_DEADLINE_MS = 600_000;

/** Queues dead letters again. Prints the new id of each that was named; of others it says how many. */
export async function retryDeadLetters(
  session: Session,
  ids: readonly string[],
  options: SelectionOptions,
): Promise<void> {
  const selection = selectionOf('retry', ids, options);
  const client = session.connect(options);
  for (const id of ids) {
    const queued = (await client.json({ method: 'POST', path: `/api/dead-letters/${segment(id)}/redrive` })) as
      | { id?: unknown }
      | undefined;
    if (typeof queued?.id !== 'string') throw client.notOurs();
    await session.output.data(`${printable(queued.id)}\n`);
  }
  if (selection === undefined) return;
  const count = await countOf(client, 'redrive', selection, 'redriven');
  session.output.note(count === 0 ? 'There are no such dead letters.' : `${lettersText(count)} queued again.`);
  if (count > 0 && (await anyLeft(client, selection))) {
    session.output.warn(
      'There still are some: the queue is full for now, or they came meanwhile. Repeat this when some have run.',
    );
  }
}

/** By id it asks on a terminal only, as `lambda rm` does; of many it wants to be told. */
export async function purgeDeadLetters(session: Session, ids: readonly string[], options: PurgeOptions): Promise<void> {
  const selection = selectionOf('purge', ids, options);
  const onTerminal = process.stdin.isTTY && process.stderr.isTTY;
  if (options.yes !== true && onTerminal) {
    const what = selection === undefined ? ids.join(', ') : `${selectionText(selection)}`;
    await confirm(`Throw ${printable(what)} away for good?`, 'Nothing was thrown away.');
  } else if (options.yes !== true && selection !== undefined) {
    throw usageError(
      'There is no terminal to ask on, and dead letters that are purged are gone.',
      'Say it with --yes.',
    );
  }
  const client = session.connect(options);
  for (const id of ids) {
    await client.json({ method: 'DELETE', path: `/api/dead-letters/${segment(id)}` });
    session.output.note(`Purged ${id}.`);
  }
  if (selection === undefined) return;
  const count = await countOf(client, 'purge', selection, 'purged');
  session.output.note(count === 0 ? 'There are no such dead letters.' : `${lettersText(count)} thrown away.`);
}

interface Selection {
  readonly function?: string;
  readonly condition?: string;
  readonly all?: true;
}

/** Undefined when ids say which. */
function selectionOf(command: string, ids: readonly string[], options: SelectionOptions): Selection | undefined {
  const { function: ofFunction, condition, all } = options;
  const filtered = ofFunction !== undefined || condition !== undefined;
  const ways = [ids.length > 0, filtered, all === true].filter(Boolean).length;
  if (ways !== 1) {
    throw usageError(
      ways === 0 ? 'Which dead letters?' : 'Ids, --function or --condition, and --all do not go together.',
      `For example: lambda queue ${command} <id>, lambda queue ${command} --function <name>, or lambda queue ${command} --all.`,
    );
  }
  if (ids.length > 0) return undefined;
  return all === true ? { all } : { function: ofFunction, condition };
}

async function countOf(client: ApiClient, path: string, selection: Selection, field: string): Promise<number> {
  const answer = (await client.json({
    method: 'POST',
    path: `/api/dead-letters/${path}`,
    headers: { 'content-type': 'application/json' },
    body: Buffer.from(JSON.stringify(selection)),
    deadlineMs: MANY_DEADLINE_MS,
  })) as Readonly<Record<string, unknown>> | undefined;
  const count = answer?.[field];
  if (typeof count !== 'number') throw client.notOurs();
  return count;
}

async function anyLeft(client: ApiClient, { function: ofFunction, condition }: Selection): Promise<boolean> {
  const query = { function: ofFunction, condition, limit: 1 };
  const page = (await client.json({ method: 'GET', path: '/api/dead-letters', query })) as
    | { deadLetters?: unknown }
    | undefined;
  return Array.isArray(page?.deadLetters) && page.deadLetters.length > 0;
}

function lettersText(count: number): string {
  return count === 1 ? '1 dead letter was' : `${count} dead letters were`;
}

function selectionText({ function: ofFunction, condition }: Selection): string {
  const of = ofFunction === undefined ? '' : ` of ${ofFunction}`;
  return `all dead letters${of}${condition === undefined ? '' : ` with ${condition}`}`;
}
