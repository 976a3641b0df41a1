import { segment } from '../api/client.js';
import { isSchedule, isTick } from '../api/resources.js';
import type { OutputFormat } from '../arguments.js';
import type { ServerFlags } from '../find-server.js';
import type { Session } from '../session.js';
import { renderFields, renderTable } from '../table.js';
import { printable } from '../terminal-text.js';

export interface ListSchedulesOptions extends ServerFlags {
  readonly function?: string;
  readonly limit: number;
  readonly output: OutputFormat;
}

export interface GetScheduleOptions extends ServerFlags {
  readonly output: OutputFormat;
}

export interface ScheduleHistoryOptions extends ServerFlags {
  readonly limit: number;
  readonly output: 'table' | 'json';
}

const pathOf = (name: string): string => `/api/schedules/${segment(name)}`;

export async function listSchedules(session: Session, options: ListSchedulesOptions): Promise<void> {
  const client = session.connect(options);
  const { function: ofFunction, limit } = options;
  const query = { function: ofFunction, limit };
  const page = (await client.json({ method: 'GET', path: '/api/schedules', query })) as
    | { schedules?: unknown }
    | undefined;
  if (!Array.isArray(page?.schedules) || !page.schedules.every(isSchedule)) throw client.notOurs();
  const { schedules } = page;
  const { output } = session;
  if (options.output === 'json') return await output.data(`${JSON.stringify(schedules, null, 2)}\n`);
  if (options.output === 'name') return await output.data(schedules.map(({ name }) => `${printable(name)}\n`).join(''));
  if (schedules.length === 0) {
    output.note('No schedules. Make one: lambda schedule <function> --cron "0 * * * *"');
    return;
  }
  const rows = schedules.map((schedule) => [
    schedule.name,
    schedule.functionName,
    schedule.expression,
    schedule.timeZone,
    schedule.overlap,
    schedule.enabled ? (schedule.nextTickAt ?? 'never') : 'paused',
  ]);
  await output.data(renderTable(['NAME', 'FUNCTION', 'EXPRESSION', 'TIME ZONE', 'OVERLAP', 'NEXT'], rows));
}

export async function getSchedule(session: Session, name: string, options: GetScheduleOptions): Promise<void> {
  const client = session.connect(options);
  const schedule = await client.json({ method: 'GET', path: pathOf(name) });
  if (!isSchedule(schedule)) throw client.notOurs();
  const { output } = session;
  if (options.output === 'json') return await output.data(`${JSON.stringify(schedule, null, 2)}\n`);
  if (options.output === 'name') return await output.data(`${printable(schedule.name)}\n`);
  const fields = Object.entries(schedule)
    .filter(([, value]) => value !== null)
    .map(([field, value]) => [field, typeof value === 'string' ? value : JSON.stringify(value)] as const);
  await output.data(renderFields(fields));
}

/** Pauses or resumes schedules. */
export async function switchSchedules(
  session: Session,
  names: readonly string[],
  to: 'pause' | 'resume',
  options: ServerFlags,
): Promise<void> {
  const client = session.connect(options);
  for (const name of names) {
    const schedule = await client.json({ method: 'POST', path: `${pathOf(name)}/${to}` });
    if (!isSchedule(schedule)) throw client.notOurs();
    const next = schedule.enabled
      ? `runs next at ${printable(schedule.nextTickAt ?? 'no time any more')}`
      : 'is paused';
    session.output.note(`${name} ${next}.`);
  }
}

/** Queues an invocation of a schedule now and prints its id. */
export async function runSchedule(session: Session, name: string, options: ServerFlags): Promise<void> {
  const client = session.connect(options);
  const queued = (await client.json({ method: 'POST', path: `${pathOf(name)}/run` })) as
    | { invocationId?: unknown }
    | undefined;
  if (typeof queued?.invocationId !== 'string') throw client.notOurs();
  await session.output.data(`${printable(queued.invocationId)}\n`);
}

export async function removeSchedules(session: Session, names: readonly string[], options: ServerFlags): Promise<void> {
  const client = session.connect(options);
  for (const name of names) {
    await client.json({ method: 'DELETE', path: pathOf(name) });
    session.output.note(`Removed ${name}.`);
  }
}

export async function scheduleHistory(session: Session, name: string, options: ScheduleHistoryOptions): Promise<void> {
  const client = session.connect(options);
  const query = { limit: options.limit };
  const page = (await client.json({ method: 'GET', path: `${pathOf(name)}/ticks`, query })) as
    | { ticks?: unknown }
    | undefined;
  if (!Array.isArray(page?.ticks) || !page.ticks.every(isTick)) throw client.notOurs();
  const { ticks } = page;
  const { output } = session;
  if (options.output === 'json') return await output.data(`${JSON.stringify(ticks, null, 2)}\n`);
  if (ticks.length === 0) {
    output.note(`Nothing has become due of ${name} yet.`);
    return;
  }
  const rows = ticks.map(({ tickAt, trigger, outcome, count, invocationId }) => [
    tickAt,
    trigger,
    count === 1 ? outcome : `${outcome} (${count})`,
    invocationId ?? '',
  ]);
  await output.data(renderTable(['TICK', 'TRIGGER', 'OUTCOME', 'INVOCATION'], rows));
}
