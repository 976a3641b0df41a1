import { type ApiClient, segment } from '../api/client.js';
import { type FunctionResource, isFunction } from '../api/resources.js';
import type { OutputFormat } from '../arguments.js';
import { confirm } from '../confirm.js';
import type { ServerFlags } from '../find-server.js';
import type { Session } from '../session.js';
import { renderFields, renderTable } from '../table.js';
import { durationText, printable } from '../terminal-text.js';

export interface ListOptions extends ServerFlags {
  readonly output: OutputFormat;
}

export interface RemoveOptions extends ServerFlags {
  readonly yes?: boolean;
}

export async function listFunctions(session: Session, options: ListOptions): Promise<void> {
  const client = session.connect(options);
  const functions: FunctionResource[] = [];
  for await (const item of allFunctions(client)) functions.push(item);
  const { output } = session;
  if (options.output === 'json') return await output.data(`${JSON.stringify(functions, null, 2)}\n`);
  if (options.output === 'name')
    return await output.data(functions.map((item) => `${printable(item.name)}\n`).join(''));
  if (functions.length === 0) {
    output.note('No functions yet. Deploy one: lambda deploy <folder>');
    return;
  }
  const rows = functions.map((item) => [
    item.name,
    item.runtime,
    `${item.memoryMb} MB`,
    durationText(item.timeoutMs),
    String(item.version),
    item.updatedAt,
    item.url,
  ]);
  await output.data(renderTable(['NAME', 'RUNTIME', 'MEMORY', 'TIMEOUT', 'VERSION', 'UPDATED', 'URL'], rows));
}

async function* allFunctions(client: ApiClient): AsyncGenerator<FunctionResource> {
  let cursor: string | undefined;
  do {
    const page = (await client.json({ method: 'GET', path: '/api/functions', query: { limit: 100, cursor } })) as
      | { functions?: unknown; nextCursor?: unknown }
      | undefined;
    if (!Array.isArray(page?.functions)) throw client.notOurs();
    for (const item of page.functions) {
      if (!isFunction(item)) throw client.notOurs();
      yield item;
    }
    const next = typeof page.nextCursor === 'string' ? page.nextCursor : undefined;
    // A cursor that does not move would ask for the same page for ever.
    if (next !== undefined && next === cursor) throw client.notOurs();
    cursor = next;
  } while (cursor !== undefined);
}

export async function getFunction(session: Session, name: string, options: ListOptions): Promise<void> {
  const client = session.connect(options);
  const found = await client.json({ method: 'GET', path: `/api/functions/${segment(name)}` });
  if (!isFunction(found)) throw client.notOurs();
  const { output } = session;
  if (options.output === 'json') return await output.data(`${JSON.stringify(found, null, 2)}\n`);
  if (options.output === 'name') return await output.data(`${printable(found.name)}\n`);
  const fields = Object.entries(found).map(
    ([field, value]) => [field, typeof value === 'object' ? JSON.stringify(value) : String(value)] as const,
  );
  await output.data(renderFields(fields));
}

export async function removeFunctions(
  session: Session,
  names: readonly string[],
  options: RemoveOptions,
): Promise<void> {
  const client = session.connect(options);
  if (options.yes !== true && process.stdin.isTTY && process.stderr.isTTY) {
    await confirm(`Remove ${names.join(', ')} with all versions?`, 'Nothing was removed.');
  }
  for (const name of names) {
    await client.json({ method: 'DELETE', path: `/api/functions/${segment(name)}` });
    session.output.note(`Removed ${name}.`);
  }
}
