import type { VersionSpec } from '@lambda-fleet/proto';
import type { AttemptClaim } from './attempt-grants.js';

/** What an agent that was told of a version may speak of and fetch. */
interface ToldVersion {
  readonly projectId: string;
  readonly functionId: string;
  readonly artifacts: ReadonlySet<string>;
}

/** The versions whose spec one session has been sent. */
export class ToldVersions {
  readonly #told = new Map<string, ToldVersion>();

  has(versionId: string): boolean {
    return this.#told.has(versionId);
  }

  add({ versionId, projectId, functionId, artifactSha256, image }: VersionSpec): void {
    const digests = image === undefined ? [artifactSha256] : image.layers.map(({ sha256 }) => sha256);
    this.#told.set(versionId, { projectId, functionId, artifacts: new Set(digests) });
  }

  delete(versionId: string): void {
    this.#told.delete(versionId);
  }

  projectOfArtifact(sha256: string): string | undefined {
    for (const { projectId, artifacts } of this.#told.values()) if (artifacts.has(sha256)) return projectId;
    return undefined;
  }

  includes({ versionId, functionId, projectId }: AttemptClaim): boolean {
    const told = this.#told.get(versionId);
    return told?.functionId === functionId && told.projectId === projectId;
  }
}
