import type { VersionSpec } from '@lambda-fleet/proto';

/**
 * Versions the node has been told about. Bounded: the one that was added longest
 * ago goes first, and the control plane sends it again when the agent asks.
 */
export class SpecCache {
  readonly #specs = new Map<string, VersionSpec>();

  constructor(private readonly max: number) {}

  add(spec: VersionSpec): void {
    this.#specs.delete(spec.versionId);
    this.#specs.set(spec.versionId, spec);
    if (this.#specs.size <= this.max) return;
    const oldest = this.#specs.keys().next().value;
    if (oldest !== undefined) this.#specs.delete(oldest);
  }

  get(versionId: string): VersionSpec | undefined {
    return this.#specs.get(versionId);
  }

  forget(versionIds: readonly string[]): void {
    for (const id of versionIds) this.#specs.delete(id);
  }
}
