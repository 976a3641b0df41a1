import type { ArchiveSource } from './archive-entry.js';
import { type ArchiveLimits, DEFAULT_ARCHIVE_LIMITS } from './entry-rules.js';
import { type ArchiveFormat, walkArchive } from './walk-archive.js';

export interface InspectedArchive {
  readonly format: ArchiveFormat;
  readonly entries: number;
  readonly unpackedBytes: number;
  /** Whether a file or symlink stands at this relative path. */
  has(path: string): boolean;
}

/**
 * Unpacks an archive into nothing and checks it by the same rules that extraction uses, so that what is stored can be
 * extracted later. Throws FleetError `invalid_archive` or `archive_too_large`.
 */
export async function inspectArchive(
  source: ArchiveSource,
  limits: ArchiveLimits = DEFAULT_ARCHIVE_LIMITS,
): Promise<InspectedArchive> {
  const files = new Set<string>();
  const walked = await walkArchive(source, limits, async (entry, content) => {
    if (entry.kind !== 'directory') files.add(entry.path);
    for await (const _ of content) {
      // Reading to the end is what checks size and checksum.
    }
  });
  return { ...walked, has: (path) => files.has(path) };
}
