/** One entry of an archive that passed every check of {@link EntryRules}. */
export interface ArchiveEntry {
  /** Relative, `/`-separated, without `.` or `..` components. */
  readonly path: string;
  readonly kind: 'file' | 'directory' | 'symlink';
  readonly executable: boolean;
  /** Unpacked size; 0 unless `kind` is `file`. */
  readonly bytes: number;
  /** Where a symlink points; stays inside the tree. Empty for other kinds. */
  readonly target: string;
}

/**
 * Receives the entries one after another. `content` holds a file's bytes and must be read to its end;
 * it throws when the bytes are not what the archive declared.
 */
export type VisitEntry = (entry: ArchiveEntry, content: AsyncIterable<Uint8Array>) => Promise<void>;

/** An archive as a path on disk or whole in memory. */
export type ArchiveSource = string | Buffer;
