import type { ApiClient } from '../api/client.js';
import { segment } from '../api/client.js';
import { type ExecutionResource, isExecution, isLogLine } from '../api/resources.js';
import type { OutputFormat } from '../arguments.js';
import { executionText } from '../execution-text.js';
import type { ServerFlags } from '../find-server.js';
import type { Session } from '../session.js';
import { renderTable } from '../table.js';
import { durationText, printable } from '../terminal-text.js';

export interface ListExecutionsOptions extends ServerFlags {
  readonly function?: string;
  readonly status?: string;
  readonly outcome?: string;
  readonly trigger?: string;
  readonly since?: string;
  readonly until?: string;
  readonly limit: number;
  readonly output: OutputFormat;
}

export interface GetExecutionOptions extends ServerFlags {
  readonly output: OutputFormat;
}

export interface ExecutionLogsOptions extends ServerFlags {
  readonly output: 'table' | 'json';
}

export async function listExecutions(session: Session, options: ListExecutionsOptions): Promise<void> {
  const executions = await newest(session.connect(options), options);
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
    item.status ?? item.outcome ?? 'running',
    item.trigger ?? '',
    item.finishedAt == null || item.startedAt === null
      ? ''
      : durationText(Date.parse(item.finishedAt) - Date.parse(item.startedAt)),
    item.startedAt ?? '',
  ]);
  await output.data(renderTable(['ID', 'FUNCTION', 'STATUS', 'TRIGGER', 'DURATION', 'STARTED'], rows));
}

/** As many as were asked for: a page that was searched for something rare may hold less than it could. */
async function newest(client: ApiClient, options: ListExecutionsOptions): Promise<readonly ExecutionResource[]> {
  const { function: name, status, outcome, trigger, since, until, limit } = options;
  const found: ExecutionResource[] = [];
  let cursor: string | undefined;
  do {
    const page = (await client.json({
      method: 'GET',
      path: '/api/executions',
      query: { function: name, status, outcome, trigger, since, until, limit: limit - found.length, cursor },
    })) as { executions?: unknown; nextCursor?: unknown } | null | undefined;
    if (!Array.isArray(page?.executions) || !page.executions.every(isExecution)) throw client.notOurs();
    found.push(...page.executions.slice(0, limit - found.length));
    cursor = typeof page.nextCursor === 'string' ? page.nextCursor : undefined;
  } while (cursor !== undefined && found.length < limit);
  return found;
}

/** As JSON it is printed as it came. */
export async function getExecution(session: Session, id: string, options: GetExecutionOptions): Promise<void> {
  const client = session.connect(options);
  const found = await client.json({ method: 'GET', path: `/api/executions/${segment(id)}` });
  if (!isExecution(found)) throw client.notOurs();
  const { output } = session;
  if (options.output === 'json') return await output.data(`${JSON.stringify(found, null, 2)}\n`);
  if (options.output === 'name') return await output.data(`${printable(found.id)}\n`);
  await output.data(executionText(found));
}

export async function executionLogs(session: Session, id: string, options: ExecutionLogsOptions): Promise<void> {
  const client = session.connect(options);
  const page = (await client.json({ method: 'GET', path: `/api/executions/${segment(id)}/logs` })) as
    | { logs?: unknown }
    | undefined;
  if (!Array.isArray(page?.logs)) throw client.notOurs();
  const isJson = options.output === 'json';
  for (const line of page.logs) {
    if (isLogLine(line)) await session.output.data(`${isJson ? JSON.stringify(line) : printable(line.text)}\n`);
  }
}
