import { crc32 } from 'node:zlib';
import yauzl from 'yauzl';
import type { ArchiveSource, VisitEntry } from './archive-entry.js';
import { type EntryRules, refuseArchive } from './entry-rules.js';

const STORED = 0;
const DEFLATED = 8;
const LOCAL_HEADER_BYTES = 30;
const LINK_TARGET_BYTES_MAX = 1024;
const FILE_TYPE_MASK = 0o170000;
const MADE_BY_UNIX = 3;

/**
 * Visits a zip archive. The whole central directory is judged before the first byte is unpacked, because that costs
 * little and refuses most bombs at once.
 */
export async function readZip(source: ArchiveSource, rules: EntryRules, visit: VisitEntry): Promise<void> {
  const options = { lazyEntries: true, strictFileNames: true, validateEntrySizes: true, autoClose: false } as const;
  const zip =
    typeof source === 'string'
      ? await yauzl.openPromise(source, options)
      : await yauzl.fromBufferPromise(source, options);
  try {
    rules.expectEntries(zip.entryCount);
    const entries: yauzl.Entry[] = [];
    for await (const entry of zip.eachEntry()) entries.push(entry);
    refuseOverlaps(entries);
    const admitted = [];
    for (const entry of entries) {
      const kind = kindOf(entry);
      const target = kind === 'symlink' ? await readTarget(zip, entry) : '';
      const accepted = rules.admit({
        name: entry.fileName,
        kind,
        mode: unixMode(entry) & 0o7777,
        bytes: entry.uncompressedSize,
        target,
      });
      if (accepted !== undefined) admitted.push({ accepted, entry });
    }
    for (const { accepted, entry } of admitted) {
      await visit(accepted, accepted.kind === 'file' ? checkedContent(zip, entry) : nothing());
    }
  } finally {
    zip.close();
  }
}

/** The permission and type bits, where the archive was made on a system that has them. */
function unixMode(entry: yauzl.Entry): number {
  return entry.versionMadeBy >>> 8 === MADE_BY_UNIX ? entry.externalFileAttributes >>> 16 : 0;
}

function kindOf(entry: yauzl.Entry): 'file' | 'directory' | 'symlink' {
  if (entry.isEncrypted()) throw refuseArchive('encrypted entries cannot be read', entry.fileName);
  if (entry.compressionMethod !== STORED && entry.compressionMethod !== DEFLATED) {
    throw refuseArchive(`compression method ${entry.compressionMethod} is not supported; use deflate`, entry.fileName);
  }
  const named = entry.fileName.endsWith('/') ? 'directory' : 'file';
  switch (unixMode(entry) & FILE_TYPE_MASK) {
    case 0:
      return named;
    case 0o040000:
      return 'directory';
    case 0o100000:
      return named;
    case 0o120000:
      return 'symlink';
    default:
      throw refuseArchive('devices, pipes and sockets are not allowed', entry.fileName);
  }
}

/** Entries that share compressed bytes let a small archive unpack to terabytes. */
function refuseOverlaps(entries: readonly yauzl.Entry[]): void {
  const byOffset = entries.toSorted((a, b) => a.relativeOffsetOfLocalHeader - b.relativeOffsetOfLocalHeader);
  let end = 0;
  for (const entry of byOffset) {
    if (entry.relativeOffsetOfLocalHeader < end) throw refuseArchive('entries overlap', entry.fileName);
    end = entry.relativeOffsetOfLocalHeader + LOCAL_HEADER_BYTES + entry.fileNameLength + entry.compressedSize;
  }
}

async function readTarget(zip: yauzl.ZipFile, entry: yauzl.Entry): Promise<string> {
  if (entry.uncompressedSize > LINK_TARGET_BYTES_MAX)
    throw refuseArchive("the link's target is too long", entry.fileName);
  const chunks: Uint8Array[] = [];
  for await (const chunk of checkedContent(zip, entry)) chunks.push(chunk);
  return Buffer.concat(chunks).toString('utf8');
}

/** The unpacked bytes; throws at the end when size or checksum are not what the directory says. */
async function* checkedContent(zip: yauzl.ZipFile, entry: yauzl.Entry): AsyncGenerator<Uint8Array> {
  const stream = await zip.openReadStreamPromise(entry);
  let checksum = 0;
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      checksum = crc32(chunk, checksum);
      yield chunk;
    }
  } finally {
    stream.destroy();
  }
  if (checksum !== entry.crc32) throw refuseArchive('its checksum is wrong', entry.fileName);
}

async function* nothing(): AsyncGenerator<Uint8Array> {}
