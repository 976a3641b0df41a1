import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { extractArchive } from '@lambda-fleet/common/archives/extract-archive';
import { create } from 'tar';
import { downloadArtifact } from '../artifacts/download-artifact.js';
import type { FetchArtifact } from '../invocations/invocation.js';

/**
 * Fetches a build context and gives it as a tar of our own making: the archive that somebody uploaded is checked and unpacked
 * here, and never reaches the engine.
 *
 * @param directory exists, is empty, and is removed by the caller
 * @throws FleetError `invalid_archive`, `archive_too_large`
 */
export async function openContext(fetch: FetchArtifact, sha256: string, directory: string): Promise<Readable> {
  const archive = join(directory, 'archive');
  const folder = join(directory, 'context');
  await mkdir(folder);
  await downloadArtifact(fetch(sha256), sha256, archive);
  await extractArchive(archive, folder);
  await rm(archive);
  // Portable, with one time: what the cache of the engine knows a file by does not change with the machine.
  return Readable.from(create({ cwd: folder, portable: true, mtime: new Date(0) }, ['.']));
}
