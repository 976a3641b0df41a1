import { isSchedule } from '../api/resources.js';
import { usageError } from '../cli-error.js';
import type { ServerFlags } from '../find-server.js';
import { readJsonArgument } from '../read-json-argument.js';
import type { Session } from '../session.js';
import { printable } from '../terminal-text.js';

export interface CreateScheduleOptions extends ServerFlags {
  readonly cron?: string;
  readonly name?: string;
  readonly timeZone?: string;
  readonly payload?: string;
  readonly overlap?: string;
  /** Milliseconds, as `jitter`. */
  readonly catchUp?: number;
  readonly jitter?: number;
  readonly disabled?: boolean;
}

/** Stores a schedule and prints its name; when it runs first goes to standard error. */
export async function createSchedule(
  session: Session,
  functionName: string,
  options: CreateScheduleOptions,
): Promise<void> {
  const { cron: expression, name, timeZone, overlap, catchUp: catchUpMs, jitter: jitterMs } = options;
  if (expression === undefined) {
    throw usageError(
      `When is ${printable(functionName)} to run? --cron is missing.`,
      `For example: lambda schedule ${printable(functionName)} --cron "0 * * * *", or --cron "rate(5 minutes)".`,
    );
  }
  const payload =
    options.payload === undefined
      ? undefined
      : await readJsonArgument(session, options.payload, 'value of --payload', '--payload');
  const client = session.connect(options);
  const enabled = options.disabled === true ? false : undefined;
  const fields = { function: functionName, expression, name, timeZone, overlap, catchUpMs, jitterMs, enabled };
  const created = await client.json({
    method: 'POST',
    path: '/api/schedules',
    headers: { 'content-type': 'application/json' },
    body: bodyOf(fields, payload),
  });
  if (!isSchedule(created)) throw client.notOurs();
  const { output } = session;
  await output.data(`${printable(created.name)}\n`);
  const { enabled: runs, nextTickAt } = created;
  output.note(runs && nextTickAt !== null ? `Runs at ${printable(nextTickAt)} first.` : 'It is paused.');
}

/** The payload goes in as it was given. */
function bodyOf(fields: object, payload: Buffer | undefined): Buffer {
  const text = JSON.stringify(fields);
  if (payload === undefined || payload.length === 0) return Buffer.from(text);
  return Buffer.concat([Buffer.from(`${text.slice(0, -1)},"payload":`), payload, Buffer.from('}')]);
}
