import { createHash } from 'node:crypto';

/** What a key stands for, hexadecimal. Two requests with the same hash ask for the same thing. */
export function invocationHash(mode: 'sync' | 'async', event: 'event' | 'http', payload: Buffer): string {
  return createHash('sha256').update(`${mode}\0${event}\0`).update(payload).digest('hex');
}

/** Of any values that have a JSON form, in an order that does not change. */
export function valuesHash(values: readonly (string | number)[]): string {
  return createHash('sha256').update(JSON.stringify(values)).digest('hex');
}
