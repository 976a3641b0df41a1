import { segment } from '../api/client.js';
import { isExecution, isLogLine } from '../api/resources.js';
import type { OutputFormat } from '../arguments.js';
import type { ServerFlags } from '../find-server.js';
import type { Session } from '../session.js';
import { renderTable } from '../table.js';
import { durationText, printable } from '../terminal-text.js';

export interface ListExecutionsOptions extends ServerFlags {
  readonly function?: string;
  readonly outcome?: string;
  readonly limit: number;
  readonly output: OutputFormat;
}

export async function listExecutions(session: Session, options: ListExecutionsOptions): Promise<void> {
  const client = session.connect(options);
  const page = (await client.json({
    method: 'GET',
    path: '/api/executions',
    query: { function: options.function, outcome: options.outcome, limit: options.limit },
  })) as { executions?: unknown } | undefined;
  if (!Array.isArray(page?.executions)) throw client.notOurs();
  const executions = page.executions.filter(isExecution);
  const { output } = session;
  if (options.output === 'json') return await output.data(`${JSON.stringify(executions, null, 2)}\n`);
  if (options.output === 'name') return await output.data(executions.map(({ id }) => `${printable(id)}\n`).join(''));
  if (executions.length === 0) {
    output.note('No executions. Make one: lambda invoke <function>');
    return;
  }
  const rows = executions.map((item) => [
    item.id,
    item.functionName,
    item.outcome ?? 'running',
    item.finishedAt === null ? '' : durationText(Date.parse(item.finishedAt) - Date.parse(item.startedAt)),
    item.startedAt,
  ]);
  await output.data(renderTable(['ID', 'FUNCTION', 'OUTCOME', 'DURATION', 'STARTED'], rows));
}

/** Always JSON: an execution is a document with its input, output and receipt. */
export async function getExecution(session: Session, id: string, options: ServerFlags): Promise<void> {
  const client = session.connect(options);
  const found = await client.json({ method: 'GET', path: `/api/executions/${segment(id)}` });
  await session.output.data(`${JSON.stringify(found, null, 2)}\n`);
}

export async function executionLogs(session: Session, id: string, options: ServerFlags): Promise<void> {
  const client = session.connect(options);
  const page = (await client.json({ method: 'GET', path: `/api/executions/${segment(id)}/logs` })) as
    | { logs?: unknown }
    | undefined;
  if (!Array.isArray(page?.logs)) throw client.notOurs();
  for (const line of page.logs) {
    if (isLogLine(line)) await session.output.data(`${printable(line.text)}\n`);
  }
}
