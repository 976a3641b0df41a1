import { createHash } from 'node:crypto';
import { FleetError } from '@lambda-fleet/common/errors';
import { CHUNK_BYTES_MAX } from '@lambda-fleet/common/limits';
import type { Database } from '../db/database.js';
import { type Artifact, CHUNKS_PER_INSERT, type PostgresArtifactStore } from './postgres-artifact-store.js';

/**
 * Layers of container images: artifacts that arrive as a stream from an agent, which may be a stolen one.
 *
 * A layer is complete only when its bytes were seen to have the digest that is its name. The bytes are hashed as they come;
 * where chunks of it were there already (an upload that broke off, or another one at the same moment), what is
 * stored is read back and hashed, because then it is not all what came.
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
        returning sha256, bytes`,
    );
    return rows.map(({ sha256: digest, bytes }) => ({ sha256: digest, bytes }));
  }

  /**
   * Stores a layer as it arrives, in pieces of any size. Rejects with what the source throws, too.
   *
   * @throws FleetError `invalid_archive` when it is not what its name and size say; `unavailable`
   */
  async put(projectId: string, layer: Artifact, source: AsyncIterable<Uint8Array>): Promise<void> {
    const { complete } = await this.artifacts.begin(projectId, layer);
    if (complete) return;
    const hash = createHash('sha256');
    let bytes = 0;
    let stored = 0;
    let fresh = 0;
    for await (const chunks of groups(source, (piece) => {
      bytes += piece.length;
      if (bytes > layer.bytes) throw notWhatItSays(layer);
      hash.update(piece);
    })) {
      fresh += await this.artifacts.storeChunks(projectId, layer.sha256, stored, chunks);
      stored += chunks.length;
    }
    const whole = bytes === layer.bytes && hash.digest('hex') === layer.sha256;
    if (!whole || (fresh < stored && !(await this.#isStoredWhole(projectId, layer)))) {
      await this.#discard(projectId, layer.sha256);
      throw whole
        ? new FleetError('unavailable', 'What was stored of the layer before was damaged. Send it again.')
        : notWhatItSays(layer);
    }
    await this.artifacts.complete(projectId, layer.sha256);
  }

  async #isStoredWhole(projectId: string, layer: Artifact): Promise<boolean> {
    const hash = createHash('sha256');
    for await (const chunk of this.artifacts.chunks(projectId, layer)) hash.update(chunk);
    return hash.digest('hex') === layer.sha256;
  }

  async #discard(projectId: string, sha256: string): Promise<void> {
    await this.database.run(
      'discard layer',
      (sql) => sql`delete from artifacts where project_id = ${projectId} and sha256 = ${sha256} and not complete`,
    );
  }
}

function notWhatItSays({ sha256 }: Artifact): FleetError {
  return new FleetError('invalid_archive', `The layer ${sha256} did not arrive as its digest and size say.`);
}

/** Cuts pieces of any size into chunks of CHUNK_BYTES_MAX, as many of them together as one statement takes. */
async function* groups(
  source: AsyncIterable<Uint8Array>,
  see: (piece: Uint8Array) => void,
): AsyncGenerator<readonly Buffer[]> {
  let chunks: Buffer[] = [];
  let chunk = Buffer.allocUnsafe(CHUNK_BYTES_MAX);
  let filled = 0;
  for await (const piece of source) {
    see(piece);
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
