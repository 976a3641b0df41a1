import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { Parser, type ReadEntry } from 'tar';

/** `<id>/layer.tar` of older engines; blobs of newer ones, among which are small documents too. */
const LAYER = /(^|\/)layer\.tar$|^blobs\/sha256\/[0-9a-f]{64}$/;

/**
 * Calls `visit` for each file of a `docker save` archive that may be a layer, one after the other, as the archive arrives. Content
 * that is not read is skipped. Rejects with what a visit throws.
 */
export async function visitSavedLayers(
  archive: Readable,
  visit: (size: number, content: AsyncIterable<Buffer>) => Promise<void>,
): Promise<void> {
  const parser = new Parser({ strict: true });
  const abort = new AbortController();
  let failure: unknown;
  let visits: Promise<void> = Promise.resolve();
  const fail = (reason: unknown): void => {
    failure ??= reason;
    abort.abort();
  };
  parser.on('entry', (entry: ReadEntry) => {
    entry.on('error', () => {});
    if (entry.type !== 'File' || !LAYER.test(entry.path)) {
      entry.resume();
      return;
    }
    visits = visits
      .then(async () => {
        if (failure !== undefined) return;
        await visit(entry.size, entry as AsyncIterable<Buffer>);
        entry.resume();
      })
      .catch(fail);
  });
  // Links: a layer that an older engine wrote before.
  parser.on('ignoredEntry', (entry: ReadEntry) => entry.resume());
  try {
    await pipeline(archive, parser as unknown as NodeJS.WritableStream, { signal: abort.signal });
  } catch (err) {
    fail(err);
  }
  await visits;
  if (failure !== undefined) throw failure;
}
