import { FleetError } from '@lambda-fleet/common/errors';
import type postgres from 'postgres';
import type { Database } from '../db/database.js';
import type { ContainerImage } from '../db/schema.js';
import type { PostgresArtifactStore, StoredArtifact } from './postgres-artifact-store.js';

/**
 * Descriptions of container images: artifacts that other artifacts, their layers, are kept for. The same image always has the
 * same bytes and so the same name.
 */
export class ImageStore {
  constructor(
    private readonly database: Database,
    private readonly artifacts: PostgresArtifactStore,
  ) {}

  /** @throws FleetError `build_failed` when a layer is not stored as it is described */
  async put(projectId: string, image: ContainerImage): Promise<StoredArtifact> {
    const stored = await this.artifacts.put(projectId, describe(image));
    const layers = [...new Map(image.layers.map((layer) => [layer.sha256, layer])).values()];
    const [row] = await this.database.run(
      'keep layers',
      (sql) => sql<{ found: number }[]>`
        with found as (
          select a.sha256 from artifacts a
          join jsonb_to_recordset(${sql.json(layers as postgres.JSONValue)}) as l (sha256 text, bytes bigint)
            on l.sha256 = a.sha256 and l.bytes = a.unpacked_bytes
          where a.project_id = ${projectId} and a.complete
        ), kept as (
          insert into image_layers (project_id, image_sha256, layer_sha256)
          select ${projectId}, ${stored.sha256}, sha256 from found
          on conflict do nothing
        )
        select count(*)::integer as found from found`,
    );
    if (row?.found === layers.length) return stored;
    await this.artifacts.takeBack(projectId, stored).catch(() => undefined);
    throw new FleetError('build_failed', 'A layer of the image is not in the artifact store. Deploy again.');
  }
}

/** Every field in a fixed order. */
function describe(image: ContainerImage): Buffer {
  const { architecture, layers, entrypoint, command, environment, workingDirectory, exposedPorts } = image;
  return Buffer.from(
    JSON.stringify({
      ...{ kind: 'container-image', architecture, layers: layers.map(({ sha256, bytes }) => ({ sha256, bytes })) },
      ...{ entrypoint, command, environment, workingDirectory, exposedPorts },
    }),
  );
}
