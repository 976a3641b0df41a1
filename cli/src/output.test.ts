import { Writable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { Output } from './output.js';

/** A stream whose every write fails as the system says. */
function failing(code: string): NodeJS.WriteStream {
  const stream = new Writable({
    write: (_chunk, _encoding, done) => done(Object.assign(new Error(code), { code })),
  });
  return stream as unknown as NodeJS.WriteStream;
}

const quiet = () => new Writable({ write: (_chunk, _encoding, done) => done() }) as unknown as NodeJS.WriteStream;

describe('Output', () => {
  it('fails when data cannot be written: half a list must not pass for a whole one', async () => {
    await expect(new Output(failing('ENOSPC'), quiet(), true).data('x')).rejects.toThrow(/ENOSPC/);
  });

  it('takes a reader that went away for no failure', async () => {
    await new Output(failing('EPIPE'), quiet(), true).data('x');
  });
});
