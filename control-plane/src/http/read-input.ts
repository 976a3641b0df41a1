import { FleetError } from '@lambda-fleet/common/errors';
import { ARCHIVE_BYTES_MAX } from '@lambda-fleet/common/limits';
import { z } from 'zod';
import { parseInput } from '../functions/parse-input.js';
import type { ApiContext } from './api-route.js';
import type { BodyBudget } from './body-budget.js';
import { collectBody } from './collect-body.js';

/** A JSON body that holds an archive as base64, and the rest of a definition. */
export const JSON_BODY_BYTES_MAX = Math.ceil((ARCHIVE_BYTES_MAX * 4) / 3) + 1024 * 1024;

/** The media type of the request without its parameters, lower case. */
export function mediaType(c: ApiContext): string {
  return (c.env.incoming.headers['content-type'] ?? '').split(';')[0]?.trim().toLowerCase() ?? '';
}

/** @throws FleetError `unsupported_media_type`, `invalid_request`, `payload_too_large` */
export async function readJson(
  c: ApiContext,
  budget: BodyBudget,
  bytesMax = JSON_BODY_BYTES_MAX,
  /** What no body at all stands for; without it that is an error. */
  ifEmpty?: object,
): Promise<unknown> {
  const type = mediaType(c);
  if (type !== '' && type !== 'application/json') {
    throw new FleetError(
      'unsupported_media_type',
      `The body has to be application/json here, not ${type.slice(0, 100)}.`,
    );
  }
  const body = await collectBody(c.env.incoming, bytesMax, budget);
  try {
    if (body.bytes.length === 0 && ifEmpty !== undefined) return ifEmpty;
    return parseJson(body.bytes.toString('utf8'), 'The body');
  } finally {
    body.release();
  }
}

export function parseJson(text: string, what: string): unknown {
  try {
    return JSON.parse(text);
  } catch (err) {
    throw new FleetError('invalid_request', `${what} is not valid JSON.`, undefined, { cause: err });
  }
}

const LIMIT = z.coerce.number('must be a number').int('must be a whole number').min(1, 'must be at least 1');

/** `?limit=`, between 1 and 1000. */
export function readLimit(c: ApiContext, otherwise: number): number {
  const text = c.req.query('limit');
  if (text === undefined) return otherwise;
  return parseInput(z.object({ limit: LIMIT.max(1_000, 'must be at most 1000') }), { limit: text }).limit;
}

const UNITS_MS = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

/** A time in the query, or an age like `10m`. */
export function readTime(c: ApiContext, field: string): Date | undefined {
  const text = c.req.query(field);
  if (text === undefined || text === '') return undefined;
  const [, amount, unit] = /^(\d{1,6})([smhd])$/.exec(text) ?? [];
  const at = amount === undefined ? new Date(text) : new Date(Date.now() - Number(amount) * UNITS_MS[unit as 's']);
  // PostgreSQL knows no time before 4713 BC; nothing happened here before 1970 either.
  if (at.getTime() >= 0) return at;
  throw new FleetError(
    'invalid_request',
    `${field} must be a time like 2026-01-31T12:00:00Z or an age like 10m, 2h or 1d.`,
    { field },
  );
}

/** Cursors are opaque to callers, so that what is in them can change. */
export const encodeCursor = (position: string): string => Buffer.from(position).toString('base64url');

export function decodeCursor(c: ApiContext): string | undefined {
  const cursor = c.req.query('cursor');
  if (cursor === undefined || cursor === '') return undefined;
  const position = Buffer.from(cursor, 'base64url').toString('utf8');
  if (encodeCursor(position) === cursor && !position.includes('\0')) return position;
  throw new FleetError('invalid_request', 'cursor is not one that this list gave out.', { field: 'cursor' });
}
