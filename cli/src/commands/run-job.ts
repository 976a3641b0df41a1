import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Backoff } from '@lambda-fleet/common/backoff';
import { JOB_CODE_BYTES_MAX } from '@lambda-fleet/common/limits';
import { type ApiClient, ApiError, segment } from '../api/client.js';
import { idempotencyHeader } from '../api/idempotency-header.js';
import { isJob, isLogLine, type JobResource } from '../api/resources.js';
import { CliError, usageError } from '../cli-error.js';
import { EXIT, exitCodeOf } from '../exit-codes.js';
import type { ServerFlags } from '../find-server.js';
import { readJsonArgument, readStandardInput } from '../read-json-argument.js';
import type { Session } from '../session.js';
import { bytesText, printable } from '../terminal-text.js';

export interface RunJobOptions extends ServerFlags {
  readonly args?: string;
  readonly runtime?: string;
  readonly timeout?: number;
  readonly memory?: number;
  readonly retries?: number;
  readonly wait?: boolean;
  readonly deadline?: number;
  readonly idempotencyKey?: string;
}

/** How long one request may wait at the server. */
const WAIT_MS = 20_000;

/** Stores a job and prints its id, or with `wait` its result, byte for byte. */
export async function runJob(session: Session, file: string, options: RunJobOptions): Promise<void> {
  if (file === '-' && options.args === '-') throw usageError('Standard input cannot be both the code and --args.');
  const code = await readCode(session, file);
  const args = await readJsonArgument(session, options.args ?? '{}', 'value of --args', '--args');
  const client = session.connect(options);
  const { timeout: timeoutMs, memory: memoryMb, retries } = options;
  const runtime = options.runtime ?? (/\.py$/i.test(file) ? 'python' : undefined);
  const fields = JSON.stringify({ code, runtime, timeoutMs, memoryMb, retries });
  const job = await client.json({
    method: 'POST',
    path: '/api/jobs',
    headers: { 'content-type': 'application/json', ...idempotencyHeader(options.idempotencyKey) },
    // The arguments as they were given: this program has no business with their digits.
    body: Buffer.concat([
      Buffer.from(`${fields.slice(0, -1)},"args":`),
      args.length > 0 ? args : Buffer.from('{}'),
      BRACE,
    ]),
  });
  if (!isJob(job)) throw client.notOurs();
  if (options.wait !== true) return await session.output.data(`${printable(job.id)}\n`);
  session.output.note(printable(job.id));
  await showEnd(session, client, await waitForEnd(session, client, job.id, options.deadline));
}

const BRACE = Buffer.from('}');

async function readCode(session: Session, file: string): Promise<string> {
  let bytes: Buffer;
  try {
    bytes = file === '-' ? await readStandardInput(JOB_CODE_BYTES_MAX) : await readFile(resolve(session.cwd, file));
  } catch (err) {
    throw usageError(`The file ${file} cannot be read (${(err as NodeJS.ErrnoException).code}).`);
  }
  if (bytes.length > JOB_CODE_BYTES_MAX) {
    throw usageError(`The code has over ${bytesText(JOB_CODE_BYTES_MAX)}, which is the most that a job may have.`);
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw usageError(`${file === '-' ? 'Standard input' : file} is not UTF-8 text.`);
  }
}

/** Asks again over restarts of the server: the job survives them. */
async function waitForEnd(session: Session, client: ApiClient, id: string, deadlineMs?: number): Promise<JobResource> {
  const giveUpAt = deadlineMs === undefined ? Number.POSITIVE_INFINITY : performance.now() + deadlineMs;
  const backoff = new Backoff({ firstMs: 250, capMs: 5_000 });
  let saidLost = false;
  for (;;) {
    const leftMs = giveUpAt - performance.now();
    if (leftMs <= 0) {
      throw new CliError(`The job ${id} has not finished yet; it goes on.`, {
        exitCode: EXIT.deadline,
        next: `lambda jobs get ${id}`,
      });
    }
    const waitMs = Math.ceil(Math.min(WAIT_MS, leftMs));
    let job: unknown;
    try {
      job = await client.json({ method: 'GET', path: `/api/jobs/${segment(id)}`, query: { waitMs } });
      saidLost = false;
      backoff.reset();
    } catch (err) {
      if (!(err instanceof CliError) || (err instanceof ApiError && err.status < 500)) throw err;
      if (!saidLost) session.output.note(`The server does not answer (${err.message}); trying again …`);
      saidLost = true;
      await delay(Math.min(backoff.next(), Math.max(0, giveUpAt - performance.now())));
      continue;
    }
    if (!isJob(job)) throw client.notOurs();
    if (job.finishedAt !== null) return job;
  }
}

async function showEnd(session: Session, client: ApiClient, job: JobResource): Promise<void> {
  const { output } = session;
  const { logs, error } = job as JobResource & { readonly logs?: unknown; readonly error?: unknown };
  for (const line of Array.isArray(logs) ? logs : []) if (isLogLine(line)) output.note(printable(line.text));
  if (job.status === 'succeeded') {
    const response = await client.raw({ method: 'GET', path: `/api/jobs/${segment(job.id)}/result` });
    if (response.status >= 400) throw client.errorOf(response);
    await output.data(response.body);
    // Only a person needs the line end; a pipe gets the exact bytes.
    if (output.dataIsTerminal) await output.data('\n');
    return;
  }
  if (job.status === 'cancelled') throw new CliError('The job was cancelled.');
  throw new CliError(`The job ${job.status === 'timed_out' ? 'timed out' : 'failed'}${reasonOf(error)}`, {
    exitCode: exitCodeOf(job.outcome ?? ''),
    next: `lambda jobs logs ${job.id}`,
  });
}

/** `: TypeError: x is undefined`, with the place where code does not parse, and where it was thrown on lines of their own. */
function reasonOf(error: unknown): string {
  const { errorType, errorMessage, trace } = (error ?? {}) as Readonly<Record<string, unknown>>;
  if (typeof errorType !== 'string') return '.';
  const lines = Array.isArray(trace) ? trace.slice(0, 50).map(String) : [];
  // Node's traces begin with the error itself, which is already there.
  const places = lines.filter((line) => !line.startsWith(`${errorType}:`)).map((line) => `\n  ${line.trim()}`);
  return printable(`: ${errorType}: ${String(errorMessage ?? '')}${places.join('')}`);
}
