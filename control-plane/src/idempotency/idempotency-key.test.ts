import { FleetError } from '@lambda-fleet/common/errors';
import { describe, expect, it } from 'vitest';
import { checkSameRequest, idempotencyKeyOf, type KeyClaim } from './idempotency-key.js';
import { invocationHash, valuesHash } from './request-hash.js';

describe('the key of a request', () => {
  it.each(['a', '  ', 'order 17/€'.replace('€', '~'), 'x'.repeat(255)])('may be "%s"', (key) => {
    expect(idempotencyKeyOf({ 'idempotency-key': key })).toBe(key);
  });

  it('is absent without the header', () => expect(idempotencyKeyOf({})).toBeUndefined());

  it.each(['', 'x'.repeat(256), 'é', 'a\tb', 'a\x7f', ['a', 'b']])('may not be %j', (key) => {
    expect(() => idempotencyKeyOf({ 'idempotency-key': key })).toThrow(
      expect.objectContaining({ code: 'invalid_request', details: { field: 'Idempotency-Key' } }),
    );
  });

  it('stands for one request', () => {
    const claim: KeyClaim = { projectId: 'p', scope: 's', key: 'k', requestHash: 'aa', invocationId: 'i', runsMs: 0 };
    expect(() => checkSameRequest(claim, { requestHash: 'aa' })).not.toThrow();
    expect(() => checkSameRequest(claim, { requestHash: 'ab' })).toThrow(FleetError);
  });
});

describe('the hash of a request', () => {
  it('tells modes, kinds of events and bodies apart', () => {
    const body = Buffer.from('{}');
    const hashes = [
      ...[invocationHash('sync', 'event', body), invocationHash('async', 'event', body)],
      ...[invocationHash('sync', 'http', body), invocationHash('sync', 'event', Buffer.alloc(0))],
      ...[invocationHash('sync', 'event', Buffer.from('{} ')), invocationHash('sync', 'event', Buffer.from([0]))],
    ];
    expect(new Set(hashes).size).toBe(hashes.length);
    expect(invocationHash('sync', 'event', Buffer.from('{}'))).toBe(hashes[0]);
    expect(hashes[0]).toMatch(/^[0-9a-f]{64}$/);
  });

  it('tells values apart that are the same when they are put together', () => {
    expect(valuesHash(['ab', 'c'])).not.toBe(valuesHash(['a', 'bc']));
    expect(valuesHash(['1', 'x'])).not.toBe(valuesHash([1, 'x']));
  });
});
