import { type ApiClient, segment } from '../api/client.js';
import type { ServerFlags } from '../find-server.js';
import type { AsyncSettings, Destination } from '../project/async-settings.js';
import type { Session } from '../session.js';
import { renderFields } from '../table.js';

export interface AsyncSettingsOptions extends ServerFlags {
  readonly retries?: number;
  readonly retryDelays?: readonly number[];
  readonly maxAge?: number;
  /** False: nowhere. */
  readonly onSuccess?: Destination | false;
  readonly onFailure?: Destination | false;
  readonly output: 'table' | 'json';
}

/** Shows the settings of a function, after it has changed those that are given. */
export async function asyncSettings(session: Session, name: string, options: AsyncSettingsOptions): Promise<void> {
  const client = session.connect(options);
  const { retries, retryDelays: retryDelaysMs, maxAge: maxAgeMs } = options;
  const given = {
    ...{ retries, retryDelaysMs, maxAgeMs },
    ...{ onSuccess: orNull(options.onSuccess), onFailure: orNull(options.onFailure) },
  };
  const changes = Object.values(given).some((value) => value !== undefined);
  const settings = changes
    ? await changeAsyncSettings(client, name, given)
    : checked(client, await client.json({ method: 'GET', path: pathOf(name) }));
  const { output } = session;
  if (options.output === 'json') return await output.data(`${JSON.stringify(settings, null, 2)}\n`);
  await output.data(
    renderFields([
      ['retries', String(settings.retries)],
      ['retry delays', settings.retryDelaysMs.map(flagText).join(',')],
      ['max age', flagText(settings.maxAgeMs)],
      ['on success', destinationText(settings.onSuccess)],
      ['on failure', destinationText(settings.onFailure)],
    ]),
  );
}

/** What is absent stays. */
export async function changeAsyncSettings(
  client: ApiClient,
  name: string,
  changes: Partial<AsyncSettings>,
): Promise<AsyncSettings> {
  const headers = { 'content-type': 'application/json' };
  const body = Buffer.from(JSON.stringify(changes));
  return checked(client, await client.json({ method: 'PATCH', path: pathOf(name), headers, body }));
}

const pathOf = (name: string): string => `/api/functions/${segment(name)}/async`;

function checked(client: ApiClient, value: unknown): AsyncSettings {
  const settings = value as Partial<AsyncSettings> | undefined;
  const { retries, retryDelaysMs, maxAgeMs } = settings ?? {};
  const known = typeof retries === 'number' && typeof maxAgeMs === 'number' && Array.isArray(retryDelaysMs);
  if (!known || !retryDelaysMs.every((delay) => typeof delay === 'number')) throw client.notOurs();
  return settings as AsyncSettings;
}

function orNull(given: Destination | false | undefined): Destination | null | undefined {
  return given === false ? null : given;
}

/** As the flags take it, so that what is shown can be typed. */
function flagText(ms: number): string {
  if (ms === 0) return '0s';
  for (const [unit, unitMs] of [['h', 3_600_000] as const, ['m', 60_000] as const, ['s', 1_000] as const]) {
    if (ms % unitMs === 0) return `${ms / unitMs}${unit}`;
  }
  return `${ms}ms`;
}

function destinationText(destination: Destination | null | undefined): string {
  if (destination === null || destination === undefined) return 'nowhere';
  return 'function' in destination ? `fn:${destination.function}` : destination.url;
}
