import { type ApiClient, segment } from '../api/client.js';
import { isDeadLetter } from '../api/resources.js';
import type { OutputFormat } from '../arguments.js';
import type { ServerFlags } from '../find-server.js';
import type { Session } from '../session.js';
import { renderFields, renderTable } from '../table.js';
import { bytesText, printable } from '../terminal-text.js';

export interface ListDeadLettersOptions extends ServerFlags {
  readonly function?: string;
  readonly condition?: string;
  readonly limit: number;
  readonly output: OutputFormat;
}

export interface QueueStatusOptions extends ServerFlags {
  readonly output: 'table' | 'json';
}

interface Overview {
  readonly queued: number;
  readonly queuedBytes: number;
  readonly running: number;
  readonly deadLetters: number;
  readonly functions: readonly { readonly name: string; readonly queued: number; readonly queuedBytes: number }[];
}

const ERROR_CHARS_MAX = 60;

/** With the table it says on standard error how much is queued and runs. */
export async function listDeadLetters(session: Session, options: ListDeadLettersOptions): Promise<void> {
  const client = session.connect(options);
  const { function: ofFunction, condition, limit } = options;
  const query = { function: ofFunction, condition, limit };
  const page = (await client.json({ method: 'GET', path: '/api/dead-letters', query })) as
    | { deadLetters?: unknown; nextCursor?: unknown }
    | undefined;
  if (!Array.isArray(page?.deadLetters) || !page.deadLetters.every(isDeadLetter)) throw client.notOurs();
  const { deadLetters } = page;
  const { output } = session;
  if (options.output === 'json') return await output.data(`${JSON.stringify(deadLetters, null, 2)}\n`);
  if (options.output === 'name') return await output.data(deadLetters.map(({ id }) => `${printable(id)}\n`).join(''));
  const rows = deadLetters.map((letter) => [
    letter.id,
    letter.functionName,
    letter.trigger,
    letter.condition,
    String(letter.attempts),
    letter.error ? cut(`${letter.error.errorType}: ${letter.error.errorMessage}`) : '',
    letter.diedAt,
  ]);
  if (rows.length > 0) {
    await output.data(renderTable(['ID', 'FUNCTION', 'TRIGGER', 'CONDITION', 'ATTEMPTS', 'ERROR', 'DIED'], rows));
  } else {
    output.note(ofFunction === undefined && condition === undefined ? 'No dead letters.' : 'No such dead letters.');
  }
  if (typeof page.nextCursor === 'string') output.note(`These are the newest ${rows.length}; --limit shows more.`);
  output.note(summary(await overviewOf(client)));
}

export async function queueStatus(session: Session, options: QueueStatusOptions): Promise<void> {
  const overview = await overviewOf(session.connect(options));
  const { output } = session;
  if (options.output === 'json') return await output.data(`${JSON.stringify(overview, null, 2)}\n`);
  const { queued, queuedBytes, running, deadLetters, functions } = overview;
  await output.data(
    renderFields([
      ['queued', queued === 0 ? '0' : `${queued}, ${bytesText(queuedBytes)}`],
      ['running', String(running)],
      ['dead letters', String(deadLetters)],
    ]),
  );
  if (functions.length === 0) return;
  const rows = functions.map((of) => [of.name, String(of.queued), bytesText(of.queuedBytes)]);
  await output.data(`\n${renderTable(['FUNCTION', 'QUEUED', 'SIZE'], rows)}`);
}

export async function cancelQueued(session: Session, ids: readonly string[], options: ServerFlags): Promise<void> {
  const client = session.connect(options);
  for (const id of ids) {
    const answer = (await client.json({ method: 'POST', path: `/api/executions/${segment(id)}/cancel` })) as
      | { cancelled?: unknown }
      | undefined;
    if (typeof answer?.cancelled !== 'string') throw client.notOurs();
    session.output.note(
      answer.cancelled === 'requested' ? `${id} runs; its node was told to stop it.` : `${id} is cancelled.`,
    );
  }
}

async function overviewOf(client: ApiClient): Promise<Overview> {
  const overview = (await client.json({ method: 'GET', path: '/api/queue' })) as Partial<Overview> | undefined;
  const counts = [overview?.queued, overview?.queuedBytes, overview?.running, overview?.deadLetters];
  if (!counts.every((count) => typeof count === 'number') || !Array.isArray(overview?.functions))
    throw client.notOurs();
  return overview as Overview;
}

/** The whole of it is in `lambda queue get`. */
function cut(text: string): string {
  return text.length <= ERROR_CHARS_MAX ? text : `${text.slice(0, ERROR_CHARS_MAX - 1)}…`;
}

function summary({ queued, running, deadLetters }: Overview): string {
  return `${queued} queued, ${running} running, ${deadLetters} dead ${deadLetters === 1 ? 'letter' : 'letters'} in all.`;
}
