import { InvokeKind, Outcome, type ResponseEnd } from '@lambda-fleet/proto';
import { describe, expect, it } from 'vitest';
import { KeptResults } from './kept-results.js';

function end(invocationId: string, bytes = 0, epoch = 1): ResponseEnd {
  return {
    invocationId,
    epoch,
    versionId: 'v',
    projectId: 'default',
    functionId: 'f',
    functionName: 'f',
    versionNumber: 1,
    memoryMb: 128,
    trigger: 'api',
    startedAtUnixMs: 0,
    outcome: Outcome.SUCCESS,
    http: undefined,
    bodyBytes: bytes,
    bodyStreamed: false,
    body: Buffer.alloc(bytes),
    error: undefined,
    receipt: undefined,
    replayed: false,
    kind: InvokeKind.EVENT,
  };
}

describe('KeptResults', () => {
  it('hands what is not acknowledged to another link, oldest first, marked as sent before, once', () => {
    const kept = new KeptResults<string>({ resultsMax: 10, bytesMax: 1e6 });
    for (const id of ['a', 'b', 'c']) kept.keep(end(id), 'one');
    kept.keep(end('d'), 'two');
    kept.keep(end('e'), undefined);
    kept.acknowledge([{ invocationId: 'b', epoch: 1 }]);
    const ids = (results: readonly ResponseEnd[]) => results.map((result) => [result.invocationId, result.replayed]);
    expect(ids(kept.takeOver('two'))).toEqual([['e', true]]);
    kept.lost('one');
    expect(ids(kept.takeOver('two'))).toEqual([
      ['a', true],
      ['c', true],
    ]);
    expect(kept.takeOver('three')).toEqual([]);
  });

  it('does not take the acknowledgement of another attempt', () => {
    const kept = new KeptResults<string>({ resultsMax: 10, bytesMax: 1e6 });
    kept.keep(end('a', 0, 2), 'one');
    kept.acknowledge([{ invocationId: 'a', epoch: 1 }]);
    expect(kept.size).toBe(1);
  });

  it('tells when everything is acknowledged, and gives up waiting for it', async () => {
    const kept = new KeptResults<string>({ resultsMax: 10, bytesMax: 1e6 });
    await kept.drained(10_000);
    kept.keep(end('a'), 'one');
    await kept.drained(5);
    const drained = kept.drained(10_000);
    kept.acknowledge([{ invocationId: 'a', epoch: 1 }]);
    await drained;
  });

  it('is full by number or by bytes, and has room again after acknowledgements', () => {
    const byNumber = new KeptResults<string>({ resultsMax: 2, bytesMax: 1e6 });
    byNumber.keep(end('a'), 'one');
    byNumber.keep(end('b'), 'one');
    expect(byNumber.full).toBe(true);
    byNumber.acknowledge([{ invocationId: 'a', epoch: 1 }]);
    expect(byNumber.full).toBe(false);

    const byBytes = new KeptResults<string>({ resultsMax: 100, bytesMax: 10_000 });
    byBytes.keep(end('a', 9_500), 'one');
    expect(byBytes.full).toBe(true);
    byBytes.acknowledge([{ invocationId: 'a', epoch: 1 }]);
    expect(byBytes.full).toBe(false);
  });
});
