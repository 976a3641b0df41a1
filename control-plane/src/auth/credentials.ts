import type { IncomingHttpHeaders } from 'node:http';
import { apiKeyPrefix } from './api-key.js';
import type { ApiKeys, Caller } from './api-keys.js';

/**
 * Who asks, by `Authorization: Bearer` or `x-api-key`; undefined without a valid key. Answers at once when warm.
 * An Authorization that has not the form of our keys belongs to a function, and hides no `x-api-key`.
 */
export function authenticate(
  keys: ApiKeys,
  headers: IncomingHttpHeaders,
): Caller | undefined | Promise<Caller | undefined> {
  const key = keyIn(headers.authorization, BEARER) ?? keyIn(headers['x-api-key'], BARE);
  return key === undefined ? undefined : keys.verify(key);
}

/** The headers that hold something in the form of our keys, valid or not: none of a function's business. */
export function headersWithKeys(headers: IncomingHttpHeaders): ReadonlySet<string> {
  const names = new Set<string>();
  if (keyIn(headers.authorization, BEARER) !== undefined) names.add('authorization');
  if (keyIn(headers['x-api-key'], BARE) !== undefined) names.add('x-api-key');
  return names;
}

const BEARER = /^Bearer +(\S+) *$/i;
const BARE = /^(\S+)$/;

function keyIn(header: string | string[] | undefined, form: RegExp): string | undefined {
  if (typeof header !== 'string') return undefined;
  const key = form.exec(header)?.[1];
  return key !== undefined && apiKeyPrefix(key) !== undefined ? key : undefined;
}
