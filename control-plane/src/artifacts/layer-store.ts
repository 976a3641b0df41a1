import { FleetError } from '@lambda-fleet/common/errors';
import { CHUNK_BYTES_MAX } from '@lambda-fleet/common/limits';
import type { Database } from '../db/database.js';
import { type Artifact, CHUNKS_PER_INSERT, type PostgresArtifactStore } from './postgres-artifact-store.js';
import { NotUnpackable, UnpackedDigest } from './unpacked-digest.js';

/**
 * Layers of container images: artifacts that are named by what they unpack to, and stored as the gzip stream that an agent, which
 * may be a stolen one, sends.
 *
 * A layer is complete only when its bytes were seen to unpack to the digest that is its name. That is checked as they come;
 * where chunks of it were there already (an upload that broke off, or another one at the same moment), what is
 * stored is read back and checked, because then it is not all what came.
 *
 * Compressed by the agent, because PostgreSQL's own compression takes five times as long and leaves a quarter more.
 */
export class LayerStore {
  constructor(
    private readonly database: Database,
    private readonly artifacts: PostgresArtifactStore,
  ) {}

  /** Those of the layers that are stored. They count as used from now on, so that the sweep leaves them for an hour. */
  async stored(projectId: string, sha256: readonly string[]): Promise<readonly Artifact[]> {
    const rows = await this.database.run(
      'find layers',
      (sql) => sql<Artifact[]>`
        update artifacts set touched_at = date_trunc('milliseconds', clock_timestamp())
        where project_id = ${projectId} and sha256 in ${sql([...sha256])} and complete
        returning sha256, unpacked_bytes as bytes`,
    );
    return rows.map(({ sha256: digest, bytes }) => ({ sha256: digest, bytes }));
  }

  /**
   * Stores a layer as it arrives, compressed, in pieces of any size. `layer.bytes` is what it unpacks to. Rejects with what the
   * source throws, too.
   *
   * @throws FleetError `invalid_archive` when it is not what its name and size say; `unavailable`
   */
  async put(projectId: string, layer: Artifact, source: AsyncIterable<Uint8Array>): Promise<void> {
    const { complete } = await this.artifacts.begin(projectId, { sha256: layer.sha256, bytes: 0 });
    if (complete) return;
    const check = new UnpackedDigest(layer.bytes);
    let bytes = 0;
    let stored = 0;
    let fresh = 0;
    try {
      for await (const chunks of chunkGroups(source)) {
        for (const chunk of chunks) {
          await check.write(chunk);
          bytes += chunk.length;
        }
        fresh += await this.artifacts.storeChunks(projectId, layer.sha256, stored, chunks);
        stored += chunks.length;
      }
      if (!isThat(layer, await check.finish())) throw new NotUnpackable('it has another digest');
    } catch (err) {
      if (!(err instanceof NotUnpackable)) throw err;
      await this.#discard(projectId, layer.sha256);
      throw new FleetError('invalid_archive', `The layer ${layer.sha256} did not arrive as it says: ${err.message}.`);
    } finally {
      check.close();
    }
    if (fresh < stored && !(await this.#isStoredWhole(projectId, layer, bytes))) {
      await this.#discard(projectId, layer.sha256);
      throw new FleetError('unavailable', 'What was stored of the layer before was something else. Send it again.');
    }
    await this.#complete(projectId, layer, bytes);
  }

  async #isStoredWhole(projectId: string, layer: Artifact, bytes: number): Promise<boolean> {
    const check = new UnpackedDigest(layer.bytes);
    try {
      for await (const chunk of this.artifacts.chunks(projectId, { sha256: layer.sha256, bytes })) {
        await check.write(chunk);
      }
      return isThat(layer, await check.finish());
    } catch (err) {
      if (err instanceof NotUnpackable) return false;
      throw err;
    } finally {
      check.close();
    }
  }

  async #complete(projectId: string, layer: Artifact, bytes: number): Promise<void> {
    const done = await this.database.run(
      'complete layer',
      (sql) => sql<{ sha256: string }[]>`
        update artifacts set complete = true, bytes = ${bytes}, unpacked_bytes = ${layer.bytes}
        where project_id = ${projectId} and sha256 = ${layer.sha256} and ${bytes} = (
          select coalesce(sum(length(data)), 0) from artifact_chunks
          where project_id = ${projectId} and sha256 = ${layer.sha256}
        )
        returning sha256`,
    );
    if (done.length === 0) throw new FleetError('unavailable', 'The layer was removed while it was being stored.');
  }

  async #discard(projectId: string, sha256: string): Promise<void> {
    await this.database.run(
      'discard layer',
      (sql) => sql`delete from artifacts where project_id = ${projectId} and sha256 = ${sha256} and not complete`,
    );
  }
}

function isThat(layer: Artifact, unpacked: Artifact): boolean {
  return unpacked.sha256 === layer.sha256 && unpacked.bytes === layer.bytes;
}

/** Cuts pieces of any size into chunks of CHUNK_BYTES_MAX, as many of them together as one statement takes. */
async function* chunkGroups(source: AsyncIterable<Uint8Array>): AsyncGenerator<readonly Buffer[]> {
  let chunks: Buffer[] = [];
  let chunk = Buffer.allocUnsafe(CHUNK_BYTES_MAX);
  let filled = 0;
  for await (const piece of source) {
    for (let at = 0; at < piece.length; ) {
      const part = piece.subarray(at, at + CHUNK_BYTES_MAX - filled);
      chunk.set(part, filled);
      at += part.length;
      filled += part.length;
      if (filled < CHUNK_BYTES_MAX) break;
      chunks.push(chunk);
      chunk = Buffer.allocUnsafe(CHUNK_BYTES_MAX);
      filled = 0;
      if (chunks.length < CHUNKS_PER_INSERT) continue;
      yield chunks;
      chunks = [];
    }
  }
  if (filled > 0) chunks.push(chunk.subarray(0, filled));
  if (chunks.length > 0) yield chunks;
}
