import type { VersionSpec } from '@lambda-fleet/proto';

/** More than any session names; beyond it, the others are asked as well. */
const TOLD_MAX = 20_000;

/** The artifacts that a replica has told of in this session: it gives no other. */
export class ToldArtifacts {
  readonly #digests = new Set<string>();

  has(sha256: string): boolean {
    return this.#digests.has(sha256);
  }

  addSpec(spec: VersionSpec | undefined): void {
    if (spec === undefined) return;
    this.add(spec.image === undefined ? [spec.artifactSha256] : spec.image.layers.map(({ sha256 }) => sha256));
  }

  add(digests: readonly string[]): void {
    for (const sha256 of digests) if (this.#digests.size < TOLD_MAX) this.#digests.add(sha256);
  }

  clear(): void {
    this.#digests.clear();
  }
}
