import { readFile } from 'node:fs/promises';
import { ARCHIVE_BYTES_MAX } from '@lambda-fleet/common/limits';
import { type Zippable, zipSync } from 'fflate';
import { usageError } from '../cli-error.js';
import { bytesText } from '../terminal-text.js';
import { type CodeFile, largestText } from './code-files.js';

/** The earliest time a zip can hold, in local time as fflate reads it: the same bytes in every time zone. */
const FIXED_TIME = new Date(1980, 0, 1);

/** The zip's own number for entries with Unix permissions. */
const UNIX = 3;

/** Packs files into a zip. Equal files give equal bytes, so the server knows code that it already has. */
export async function packZip(files: readonly CodeFile[]): Promise<Uint8Array> {
  const entries: Zippable = {};
  for (const { path, source, executable } of files) {
    const mode = 0o100000 | (executable ? 0o755 : 0o644);
    entries[path] = [await readFile(source), { mtime: FIXED_TIME, os: UNIX, attrs: (mode << 16) >>> 0 }];
  }
  const zip = zipSync(entries, { level: 6 });
  checkArchiveSize(zip.length, largestText(files));
  return zip;
}

export function checkArchiveSize(bytes: number, detail = ''): void {
  if (bytes <= ARCHIVE_BYTES_MAX) return;
  throw usageError(
    `The archive has ${bytesText(bytes)}; at most ${bytesText(ARCHIVE_BYTES_MAX)} are allowed. ${detail}`.trim(),
    'Leave out what the function does not need with a line in .lambdaignore.',
  );
}
