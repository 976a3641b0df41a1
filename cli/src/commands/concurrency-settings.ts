import { type ApiClient, segment } from '../api/client.js';
import type { ServerFlags } from '../find-server.js';
import { type ConcurrencySettings, isLimit } from '../project/concurrency-settings.js';
import type { Session } from '../session.js';
import { renderFields } from '../table.js';

export interface ConcurrencyOptions extends ServerFlags {
  /** False: none. */
  readonly reserved?: number | false;
  readonly maximum?: number | false;
  readonly clear?: boolean;
  readonly output: 'table' | 'json';
}

/** Shows the limits of a function, after it has changed those that are given. */
export async function concurrencySettings(session: Session, name: string, options: ConcurrencyOptions): Promise<void> {
  const client = session.connect(options);
  const { reserved, maximum } = options;
  const given = { reserved: reserved === false ? null : reserved, maximum: maximum === false ? null : maximum };
  const settings = options.clear
    ? checked(client, await client.json({ method: 'DELETE', path: pathOf(name) }))
    : given.reserved !== undefined || given.maximum !== undefined
      ? await changeConcurrency(client, name, given)
      : checked(client, await client.json({ method: 'GET', path: pathOf(name) }));
  const { output } = session;
  if (options.output === 'json') return await output.data(`${JSON.stringify(settings, null, 2)}\n`);
  await output.data(
    renderFields([
      ['reserved', settings.reserved === 0 ? '0, switched off' : String(settings.reserved ?? 'none')],
      ['maximum', String(settings.maximum ?? 'none')],
    ]),
  );
}

/** What is absent stays. */
export async function changeConcurrency(
  client: ApiClient,
  name: string,
  changes: Partial<ConcurrencySettings>,
): Promise<ConcurrencySettings> {
  const headers = { 'content-type': 'application/json' };
  const body = Buffer.from(JSON.stringify(changes));
  return checked(client, await client.json({ method: 'PUT', path: pathOf(name), headers, body }));
}

const pathOf = (name: string): string => `/api/functions/${segment(name)}/concurrency`;

function checked(client: ApiClient, value: unknown): ConcurrencySettings {
  const { reserved, maximum } = (value ?? {}) as Partial<ConcurrencySettings>;
  if (!isLimit(reserved, 0) || !isLimit(maximum, 1)) throw client.notOurs();
  return value as ConcurrencySettings;
}
