import { PAYLOAD_BYTES_MAX } from '@lambda-fleet/common/limits';
import { type Invoke, InvokeKind } from '@lambda-fleet/proto';
import { describe, expect, it } from 'vitest';
import { IncomingPayloads } from './incoming-payloads.js';

function invokeOf(invocationId: string, payloadBytes: number): Invoke {
  return {
    invocationId,
    epoch: 1,
    kind: InvokeKind.EVENT,
    versionId: 'v',
    spec: undefined,
    trigger: 'api',
    traceId: '',
    payloadBytes,
    payloadStreamed: true,
    payload: Buffer.alloc(0),
    clientContext: '',
    singleUse: false,
    isolation: '',
  };
}

const chunk = (invocationId: string, text: string) => ({ invocationId, epoch: 1, data: Buffer.from(text) });

function collect() {
  const complete: string[] = [];
  const cancelled: string[] = [];
  const payloads = new IncomingPayloads(
    (invoke, payload) => complete.push(`${invoke.invocationId}:${payload.toString()}`),
    (invoke) => cancelled.push(invoke.invocationId),
  );
  return { payloads, complete, cancelled };
}

describe('IncomingPayloads', () => {
  it('puts a payload together whichever of announcement and chunks comes first', () => {
    const { payloads, complete } = collect();
    payloads.expect(invokeOf('a', 4));
    payloads.add(chunk('b', 'xy'));
    payloads.add(chunk('a', 'ab'));
    payloads.add(chunk('a', 'cd'));
    expect(complete).toEqual(['a:abcd']);
    payloads.expect(invokeOf('b', 2));
    expect(complete).toEqual(['a:abcd', 'b:xy']);
  });

  it('never starts what was cancelled while its payload arrived, and has nothing left of it afterwards', () => {
    const { payloads, complete, cancelled } = collect();
    payloads.expect(invokeOf('a', 4));
    payloads.add(chunk('a', 'ab'));
    expect(payloads.cancel('a')).toBe(true);
    expect(cancelled).toEqual([]);
    payloads.add(chunk('a', 'cd'));
    expect({ complete, cancelled }).toEqual({ complete: [], cancelled: ['a'] });
    expect(payloads.cancel('a')).toBe(false);
  });

  it('refuses a payload that is longer than announced or than any may be', () => {
    const { payloads } = collect();
    payloads.expect(invokeOf('a', 1));
    expect(() => payloads.add(chunk('a', 'ab'))).toThrow(/longer than announced/);
    expect(() => payloads.expect(invokeOf('b', PAYLOAD_BYTES_MAX + 1))).toThrow(/announced/);
    const { payloads: unannounced } = collect();
    const big = { invocationId: 'c', epoch: 1, data: Buffer.alloc(PAYLOAD_BYTES_MAX) };
    unannounced.add(big);
    expect(() => unannounced.add(chunk('c', 'x'))).toThrow(/longer than any/);
  });

  it('bounds how many incomplete payloads a peer can make it hold', () => {
    const { payloads } = collect();
    expect(() => {
      for (let i = 0; i < 2_000; i += 1) payloads.add(chunk(`i${i}`, 'x'));
    }).toThrow(/too many/);
  });
});
