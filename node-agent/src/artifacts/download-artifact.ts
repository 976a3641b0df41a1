import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { withDeadline } from '@lambda-fleet/common/deadline';
import { ARCHIVE_BYTES_MAX } from '@lambda-fleet/common/limits';

/** Longest silence between two chunks. */
const CHUNK_DEADLINE_MS = 15_000;

/** Writes an archive to `path` as it arrives. Rejects when it is too long, not what `sha256` says, or stalls. */
export async function downloadArtifact(chunks: AsyncIterable<Uint8Array>, sha256: string, path: string): Promise<void> {
  const hash = createHash('sha256');
  const file = await open(path, 'wx', 0o600);
  const iterator = chunks[Symbol.asyncIterator]();
  let complete = false;
  try {
    let bytes = 0;
    for (;;) {
      const next = await withDeadline('fetching code from the control plane', CHUNK_DEADLINE_MS, iterator.next());
      if (next.done === true) break;
      bytes += next.value.length;
      if (bytes > ARCHIVE_BYTES_MAX)
        throw new Error(`the artifact ${sha256} is larger than ${ARCHIVE_BYTES_MAX} bytes`);
      hash.update(next.value);
      await file.writeFile(next.value);
    }
    complete = true;
  } finally {
    await file.close();
    // Not awaited: a source that stalled would stall here again.
    if (!complete) void iterator.return?.().catch(() => {});
  }
  const actual = hash.digest('hex');
  if (actual !== sha256) throw new Error(`the artifact ${sha256} arrived with the checksum ${actual}`);
}
