/** Tells followers of a build in this process that there is something new to read in the database. */
export class BuildFeed {
  readonly #followers = new Map<string, Set<() => void>>();

  changed(buildId: string): void {
    for (const hear of this.#followers.get(buildId) ?? []) hear();
  }

  /** Returns what ends the following. */
  follow(buildId: string, hear: () => void): () => void {
    const followers = this.#followers.get(buildId) ?? new Set();
    this.#followers.set(buildId, followers.add(hear));
    return () => {
      followers.delete(hear);
      if (followers.size === 0) this.#followers.delete(buildId);
    };
  }
}
