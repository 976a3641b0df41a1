import type { IncomingHttpHeaders } from 'node:http';
import type { ApiKeys, Caller } from './api-keys.js';

export interface Authenticated {
  readonly caller: Caller;
  /** The header that carried the key. */
  readonly header: 'authorization' | 'x-api-key';
}

/** Who asks, by `Authorization: Bearer` or `x-api-key`; undefined without a valid key. Answers at once when warm. */
export function authenticate(
  keys: ApiKeys,
  headers: IncomingHttpHeaders,
): Authenticated | undefined | Promise<Authenticated | undefined> {
  const bearer = /^Bearer +(\S+) *$/i.exec(headers.authorization ?? '')?.[1];
  const header = bearer === undefined ? 'x-api-key' : 'authorization';
  const key = bearer ?? headers['x-api-key'];
  if (typeof key !== 'string') return undefined;
  const caller = keys.verify(key);
  if (caller instanceof Promise) return caller.then((found) => found && { caller: found, header });
  return caller && { caller, header };
}
