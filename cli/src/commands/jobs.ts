import { segment } from '../api/client.js';
import { isJob, isLogLine } from '../api/resources.js';
import type { OutputFormat } from '../arguments.js';
import type { ServerFlags } from '../find-server.js';
import type { Session } from '../session.js';
import { renderFields, renderTable } from '../table.js';
import { durationText, printable } from '../terminal-text.js';

export interface ListJobsOptions extends ServerFlags {
  readonly status?: string;
  readonly limit: number;
  readonly output: OutputFormat;
}

export interface GetJobOptions extends ServerFlags {
  readonly output: OutputFormat;
}

export async function listJobs(session: Session, options: ListJobsOptions): Promise<void> {
  const client = session.connect(options);
  const { status, limit } = options;
  const page = (await client.json({ method: 'GET', path: '/api/jobs', query: { status, limit } })) as
    | { jobs?: unknown }
    | undefined;
  if (!Array.isArray(page?.jobs) || !page.jobs.every(isJob)) throw client.notOurs();
  const { jobs } = page;
  const { output } = session;
  if (options.output === 'json') return await output.data(`${JSON.stringify(jobs, null, 2)}\n`);
  if (options.output === 'name') return await output.data(jobs.map(({ id }) => `${printable(id)}\n`).join(''));
  if (jobs.length === 0) {
    output.note('No jobs. Run one: lambda jobs run <file>');
    return;
  }
  const rows = jobs.map((job) => [
    job.id,
    job.status,
    job.runtime,
    String(job.attempts),
    job.finishedAt == null || job.startedAt == null
      ? ''
      : durationText(Date.parse(job.finishedAt) - Date.parse(job.startedAt)),
    job.createdAt,
  ]);
  await output.data(renderTable(['ID', 'STATUS', 'RUNTIME', 'ATTEMPTS', 'DURATION', 'CREATED'], rows));
}

/** As JSON it is printed as it came: the result may hold numbers that this program would round. */
export async function getJob(session: Session, id: string, options: GetJobOptions): Promise<void> {
  const client = session.connect(options);
  const response = await client.raw({ method: 'GET', path: `/api/jobs/${segment(id)}` });
  if (response.status >= 400) throw client.errorOf(response);
  const job: unknown = parse(response.body);
  if (!isJob(job)) throw client.notOurs();
  const { output } = session;
  if (options.output === 'json') return await output.data(`${response.body.toString()}\n`);
  if (options.output === 'name') return await output.data(`${printable(job.id)}\n`);
  const fields = Object.entries(job)
    .filter(([field, value]) => value !== null && field !== 'code' && field !== 'logs')
    .map(([field, value]) => [field, typeof value === 'string' ? value : text(value)] as const);
  await output.data(renderFields(fields));
}

export async function jobLogs(session: Session, id: string, options: ServerFlags): Promise<void> {
  const client = session.connect(options);
  const page = (await client.json({ method: 'GET', path: `/api/jobs/${segment(id)}/logs` })) as
    | { logs?: unknown }
    | undefined;
  if (!Array.isArray(page?.logs)) throw client.notOurs();
  for (const line of page.logs) {
    if (isLogLine(line)) await session.output.data(`${printable(line.text)}\n`);
  }
}

export async function cancelJobs(session: Session, ids: readonly string[], options: ServerFlags): Promise<void> {
  const client = session.connect(options);
  for (const id of ids) {
    const job = await client.json({ method: 'POST', path: `/api/jobs/${segment(id)}/cancel` });
    if (!isJob(job)) throw client.notOurs();
    session.output.note(
      job.finishedAt === null ? `${id} runs; its node was told to stop it.` : `${id} is ${printable(job.status)}.`,
    );
  }
}

function parse(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString());
  } catch {
    // Not JSON: the check that follows says what that means.
    return undefined;
  }
}

function text(value: unknown): string {
  try {
    return JSON.stringify(value);
  } catch {
    // JSON.parse reads any depth, JSON.stringify does not write it.
    return '(nested deeply: -o json prints it)';
  }
}
