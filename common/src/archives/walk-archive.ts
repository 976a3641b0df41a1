import { open, stat } from 'node:fs/promises';
import { errorText, FleetError } from '../errors.js';
import { ARCHIVE_BYTES_MAX } from '../limits.js';
import type { ArchiveSource, VisitEntry } from './archive-entry.js';
import { type ArchiveLimits, EntryRules, refuseArchive } from './entry-rules.js';
import { readTarGz } from './read-tar-gz.js';
import { readZip } from './read-zip.js';

export type ArchiveFormat = 'zip' | 'tar.gz';

export interface WalkedArchive {
  readonly format: ArchiveFormat;
  readonly entries: number;
  readonly unpackedBytes: number;
}

/**
 * Visits every entry of a zip or tar.gz archive after checking it, whatever its name says it is.
 * Throws FleetError `invalid_archive` or `archive_too_large`; errors that `visit` throws pass through.
 */
export async function walkArchive(
  source: ArchiveSource,
  limits: ArchiveLimits,
  visit: VisitEntry,
): Promise<WalkedArchive> {
  const packedBytes = typeof source === 'string' ? (await stat(source)).size : source.length;
  if (packedBytes > ARCHIVE_BYTES_MAX) {
    throw new FleetError('archive_too_large', `The archive is larger than ${ARCHIVE_BYTES_MAX} bytes.`, {
      archiveBytesMax: ARCHIVE_BYTES_MAX,
    });
  }
  const format = detectFormat(await firstBytes(source));
  const rules = new EntryRules(limits);
  let visitFailed: { readonly reason: unknown } | undefined;
  const visitNoted: VisitEntry = async (entry, content) => {
    const noted = noteReadErrors(content);
    try {
      await visit(entry, noted.content);
    } catch (err) {
      if (!noted.failed()) visitFailed = { reason: err };
      throw err;
    }
  };
  try {
    if (format === 'zip') await readZip(source, rules, visitNoted);
    else await readTarGz(source, limits, rules, visitNoted);
  } catch (err) {
    // A full disk is not the archive's fault; whatever the decoders throw is.
    if (visitFailed !== undefined) throw visitFailed.reason;
    if (err instanceof FleetError) throw err;
    throw refuseArchive(errorText(err));
  }
  return { format, entries: rules.entries, unpackedBytes: rules.unpackedBytes };
}

/** Tells by content, never by name. An empty zip is refused like anything else that is no archive with entries. */
function detectFormat(first: Buffer): ArchiveFormat {
  if (first.length >= 4 && first.readUInt32BE(0) === 0x504b0304) return 'zip';
  if (first.length >= 3 && first[0] === 0x1f && first[1] === 0x8b && first[2] === 8) return 'tar.gz';
  throw refuseArchive('it is neither a zip nor a tar.gz archive with at least one entry');
}

async function firstBytes(source: ArchiveSource): Promise<Buffer> {
  if (typeof source !== 'string') return source.subarray(0, 4);
  const file = await open(source, 'r');
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(4), 0, 4, 0);
    return buffer.subarray(0, bytesRead);
  } finally {
    await file.close();
  }
}

function noteReadErrors(content: AsyncIterable<Uint8Array>) {
  let failed = false;
  async function* noted(): AsyncGenerator<Uint8Array> {
    try {
      yield* content;
    } catch (err) {
      failed = true;
      throw err;
    }
  }
  return { content: noted(), failed: () => failed };
}
