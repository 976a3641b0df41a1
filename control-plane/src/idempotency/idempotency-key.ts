import type { IncomingHttpHeaders } from 'node:http';
import { FleetError } from '@lambda-fleet/common/errors';

/** What a request with a key says of itself. */
export interface RequestIdentity {
  readonly key: string;
  /** SHA-256 of what is asked, hexadecimal. */
  readonly requestHash: string;
}

/** A request that is to be carried out once under its key. */
export interface KeyClaim extends RequestIdentity {
  readonly projectId: string;
  /** What the key is used with: a function's id, or `jobs`. */
  readonly scope: string;
  /** UUID of version 7: what runs when the key is free. Whoever holds the key is known by it. */
  readonly invocationId: string;
  /** Milliseconds after which it is certain that no answer comes any more; 0 for what is only queued. */
  readonly runsMs: number;
}

/** What a key that is not free was used for. */
export interface UsedKey {
  readonly requestHash: string;
  readonly invocationId: string;
  /** Null until there is an answer. */
  readonly statusCode: number | null;
  readonly createdAt: Date;
  /** Milliseconds since then. */
  readonly ageMs: number;
  /** Milliseconds until it is certain that no answer comes any more; negative after that. */
  readonly leftMs: number;
}

const IDEMPOTENCY_HEADER = 'idempotency-key';

/** Marks an answer that an earlier request was given, or would have been. */
export const REPLAYED_HEADER = 'idempotent-replayed';

const KEY = /^[\x20-\x7e]{1,255}$/;

/** @throws FleetError `invalid_request` */
export function idempotencyKeyOf(headers: IncomingHttpHeaders): string | undefined {
  const key = headers[IDEMPOTENCY_HEADER];
  if (key === undefined) return undefined;
  if (typeof key === 'string' && KEY.test(key)) return key;
  throw new FleetError('invalid_request', 'Idempotency-Key must be 1 to 255 printable ASCII characters.', {
    field: 'Idempotency-Key',
  });
}

/** Throws unless the key was used for the same request. @throws FleetError `idempotency_mismatch` */
export function checkSameRequest(claim: KeyClaim, used: Pick<UsedKey, 'requestHash'>): void {
  if (used.requestHash === claim.requestHash) return;
  throw new FleetError(
    'idempotency_mismatch',
    'This Idempotency-Key was used for a request with another body or mode. Nothing was run: use a new key for a new request.',
    { field: 'Idempotency-Key' },
  );
}

/** For a key whose row was there and is not, or was not and is, as often as it was looked at. */
export function neverSettled(): FleetError {
  return new FleetError(
    'unavailable',
    'Other requests with this Idempotency-Key come and go at this moment. Nothing was run: try again in a second.',
  );
}
