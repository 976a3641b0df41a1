import { createHash } from 'node:crypto';
import { FleetError } from '@lambda-fleet/common/errors';
import { CHUNK_BYTES_MAX } from '@lambda-fleet/common/limits';
import type { Database } from '../db/database.js';

/** What a stored artifact is known by. */
export interface Artifact {
  readonly sha256: string;
  readonly bytes: number;
}

export interface StoredArtifact extends Artifact {
  /** False when the same bytes were there before. */
  readonly created: boolean;
  /** When it was put, for {@link PostgresArtifactStore.takeBack}. */
  readonly touchedAt: Date;
}

/** Chunks in one statement: 2 MiB, which the driver turns into twice that of hexadecimal text. */
export const CHUNKS_PER_INSERT = 32;
const CHUNKS_PER_READ = 16;

/**
 * Code archives, and whatever else versions are made of, in PostgreSQL, by their sha256, per project.
 *
 * An artifact comes into being by its last statement: the row is made first, not
 * complete, then its chunks, and it is marked complete when all of them are
 * there. Whatever is interrupted in between nobody can read, and the same put
 * finishes it.
 */
export class PostgresArtifactStore {
  constructor(private readonly database: Database) {}

  async put(projectId: string, archive: Buffer): Promise<StoredArtifact> {
    const sha256 = createHash('sha256').update(archive).digest('hex');
    const bytes = archive.length;
    const begun = await this.begin(projectId, { sha256, bytes });
    if (begun.complete) return { sha256, bytes, created: false, touchedAt: begun.touchedAt };

    const chunks = Math.ceil(bytes / CHUNK_BYTES_MAX);
    for (let from = 0; from < chunks; from += CHUNKS_PER_INSERT) {
      const slice = Array.from({ length: Math.min(CHUNKS_PER_INSERT, chunks - from) }, (_, i) =>
        archive.subarray((from + i) * CHUNK_BYTES_MAX, (from + i + 1) * CHUNK_BYTES_MAX),
      );
      await this.storeChunks(projectId, sha256, from, slice);
    }
    return { sha256, bytes, created: true, touchedAt: await this.complete(projectId, sha256) };
  }

  /** First step of a put: the row, not complete unless it was before. */
  async begin(projectId: string, { sha256, bytes }: Artifact): Promise<{ complete: boolean; touchedAt: Date }> {
    const [row] = await this.database.run(
      'begin artifact',
      (sql) => sql<{ complete: boolean; touchedAt: Date }[]>`
        insert into artifacts (project_id, sha256, bytes, touched_at)
        values (${projectId}, ${sha256}, ${bytes}, date_trunc('milliseconds', clock_timestamp()))
        on conflict (project_id, sha256) do update
          set touched_at = greatest(excluded.touched_at, artifacts.touched_at + interval '1 millisecond'),
            bytes = case when artifacts.complete then artifacts.bytes else excluded.bytes end
        returning complete, touched_at`,
    );
    return row ?? { complete: false, touchedAt: new Date(0) };
  }

  /** Stores consecutive chunks, all but an artifact's last of CHUNK_BYTES_MAX. Returns how many were not there before. */
  async storeChunks(projectId: string, sha256: string, from: number, chunks: readonly Buffer[]): Promise<number> {
    const rows = chunks.map((data, i) => ({ project_id: projectId, sha256, sequence: from + i, data }));
    const stored = await this.database.run(
      'store chunks',
      (sql) => sql<{ sequence: number }[]>`
        insert into artifact_chunks ${sql(rows)} on conflict do nothing returning sequence`,
    );
    return stored.length;
  }

  /**
   * Last step of a put.
   *
   * @throws FleetError `unavailable` when it is not all there
   */
  async complete(projectId: string, sha256: string): Promise<Date> {
    const [done] = await this.database.run(
      'complete artifact',
      (sql) => sql<{ touchedAt: Date }[]>`
        update artifacts set complete = true
        where project_id = ${projectId} and sha256 = ${sha256} and bytes = (
          select coalesce(sum(length(data)), 0) from artifact_chunks
          where project_id = ${projectId} and sha256 = ${sha256}
        )
        returning touched_at`,
    );
    if (done !== undefined) return done.touchedAt;
    throw new FleetError('unavailable', 'The archive was removed while it was being stored. Upload it again.');
  }

  /**
   * The archive in order, in chunks of at most 64 KiB.
   *
   * @throws FleetError `invalid_archive` when there is no such artifact.
   */
  async *read(projectId: string, sha256: string): AsyncGenerator<Buffer, void, void> {
    const [artifact] = await this.database.run(
      'find artifact',
      (sql) => sql<{ bytes: number }[]>`
        select bytes from artifacts where project_id = ${projectId} and sha256 = ${sha256} and complete`,
    );
    if (artifact === undefined) throw new FleetError('invalid_archive', `There is no archive ${sha256}.`);
    yield* this.chunks(projectId, { sha256, bytes: artifact.bytes });
  }

  /** Like {@link read}, also of what is not complete yet. */
  async *chunks(projectId: string, { sha256, bytes }: Artifact): AsyncGenerator<Buffer, void, void> {
    const chunks = Math.ceil(bytes / CHUNK_BYTES_MAX);
    for (let from = 0; from < chunks; from += CHUNKS_PER_READ) {
      const rows = await this.database.run(
        'read chunks',
        (sql) => sql<{ data: Buffer }[]>`
          select data from artifact_chunks
          where project_id = ${projectId} and sha256 = ${sha256}
            and sequence >= ${from} and sequence < ${from + CHUNKS_PER_READ}
          order by sequence`,
      );
      if (rows.length !== Math.min(CHUNKS_PER_READ, chunks - from)) {
        throw new FleetError('unavailable', `The archive ${sha256} was removed while it was being read.`);
      }
      for (const row of rows) yield row.data;
    }
  }

  /** Removes what one put made, unless it was put again since or a version uses it. */
  async takeBack(projectId: string, { sha256, created, touchedAt }: StoredArtifact): Promise<void> {
    if (!created) return;
    await this.database.run(
      'take artifact back',
      (sql) => sql`
        delete from artifacts a
        where project_id = ${projectId} and sha256 = ${sha256} and touched_at = ${touchedAt}
          and not exists (select from versions v where v.project_id = a.project_id and v.artifact_sha256 = a.sha256)
          and not exists (select from image_layers l where l.project_id = a.project_id and l.layer_sha256 = a.sha256)`,
    );
  }

  /**
   * Removes what no version and no image uses and nobody has put for an hour: refused deploys, interrupted uploads, deleted
   * functions. Layers go a round later than the last image that stood on them.
   */
  async removeUnused(): Promise<number> {
    const removed = await this.database.run(
      'remove unused artifacts',
      (sql) => sql`
        delete from artifacts a
        where touched_at < now() - interval '1 hour'
          and not exists (select from versions v where v.project_id = a.project_id and v.artifact_sha256 = a.sha256)
          and not exists (select from image_layers l where l.project_id = a.project_id and l.layer_sha256 = a.sha256)
        returning sha256`,
    );
    return removed.length;
  }
}
