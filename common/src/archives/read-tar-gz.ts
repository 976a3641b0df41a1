import { createReadStream } from 'node:fs';
import { Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { Parser, type ReadEntry } from 'tar';
import { FleetError } from '../errors.js';
import type { ArchiveEntry, ArchiveSource, VisitEntry } from './archive-entry.js';
import { type ArchiveLimits, type EntryRules, refuseArchive } from './entry-rules.js';

/** Header, padding and extended headers of one entry, with room to spare. */
const OVERHEAD_BYTES_PER_ENTRY = 4096;

/** Visits a gzip-compressed tar archive as a stream, so that memory stays flat whatever its size. */
export async function readTarGz(
  source: ArchiveSource,
  limits: ArchiveLimits,
  rules: EntryRules,
  visit: VisitEntry,
): Promise<void> {
  const packed = typeof source === 'string' ? createReadStream(source) : Readable.from([source]);
  const parser = new Parser({ strict: true });
  const abort = new AbortController();
  let failure: unknown;
  let current: ReadEntry | undefined;
  let visits: Promise<void> = Promise.resolve();

  const fail = (reason: unknown): void => {
    failure ??= reason;
    abort.abort();
    // Its content will never be whole; without this whoever reads it would wait for ever.
    current?.emit('error', failure);
  };
  // The parser emits one entry at a time and goes on when that entry's content was read.
  parser.on('entry', (entry: ReadEntry) => {
    current = entry;
    entry.on('error', () => {});
    visits = visits
      .then(async () => {
        if (failure !== undefined) return;
        const accepted = rules.admit(declare(entry));
        if (accepted !== undefined) await visit(accepted, contentOf(entry, accepted));
        entry.resume();
      })
      .catch(fail);
  });
  parser.on('ignoredEntry', (entry: ReadEntry) => {
    entry.resume();
    fail(refuseArchive(`entries of type ${entry.type} are not allowed`, entry.path));
  });
  const unpackedMax = limits.unpackedBytesMax + limits.entriesMax * OVERHEAD_BYTES_PER_ENTRY;
  try {
    // Parser is a Writable in all but its declared type.
    const sink = parser as unknown as NodeJS.WritableStream;
    await pipeline(packed, createGunzip(), boundedTar(unpackedMax), sink, { signal: abort.signal });
  } catch (err) {
    fail(err);
  }
  await visits;
  if (failure !== undefined) throw failure;
}

function declare(entry: ReadEntry) {
  const common = { name: entry.path, mode: entry.mode ?? 0, bytes: entry.size, target: '' };
  switch (entry.type) {
    case 'File':
    case 'OldFile':
    case 'ContiguousFile':
      return { ...common, kind: 'file' as const };
    case 'Directory':
      return { ...common, kind: 'directory' as const };
    case 'SymbolicLink':
      return { ...common, kind: 'symlink' as const, target: entry.linkpath ?? '' };
    case 'Link':
      throw refuseArchive('hard links are not allowed', entry.path);
    default:
      throw refuseArchive(`entries of type ${entry.type} are not allowed`, entry.path);
  }
}

async function* contentOf(entry: ReadEntry, { kind, bytes }: ArchiveEntry): AsyncGenerator<Uint8Array> {
  if (kind !== 'file') return;
  let seen = 0;
  for await (const chunk of entry as AsyncIterable<Buffer>) {
    seen += chunk.length;
    yield chunk;
  }
  if (seen !== bytes) throw refuseArchive('its content is cut off', entry.path);
}

/**
 * Passes a tar through and refuses what the entries' declared sizes cannot show: endless padding, and compression
 * within the compression, which the parser would otherwise unpack by itself without a bound.
 */
function boundedTar(bytesMax: number): Transform {
  let bytes = 0;
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      if (bytes === 0 && ((chunk[0] === 0x1f && chunk[1] === 0x8b) || (chunk[0] === 0x28 && chunk[1] === 0xb5))) {
        done(refuseArchive('it is compressed twice'));
        return;
      }
      bytes += chunk.length;
      if (bytes > bytesMax)
        done(new FleetError('archive_too_large', `The archive unpacks to more than ${bytesMax} bytes.`));
      else done(null, chunk);
    },
  });
}
