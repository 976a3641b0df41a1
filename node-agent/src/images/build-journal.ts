import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ImageEngine } from './image-engine.js';

const FILE = 'made.json';

/** Notes on disk what a build has made so far, for the agent that starts after this one was killed. */
export class BuildJournal {
  readonly #since = new Date();
  #writing: Promise<void> = Promise.resolve();

  constructor(private readonly directory: string) {}

  /** The newest image of each stage. */
  note(stages: readonly string[]): void {
    const text = JSON.stringify({ since: this.#since, stages });
    this.#writing = this.#writing
      .then(() => writeFile(join(this.directory, FILE), text))
      // Its folder is gone with the build, or the disk is full, which the build will say.
      .catch(() => undefined);
  }
}

/** Removes images of builds that never ended: of those that are noted, the ones that were made since and that nobody has named. */
export async function removeUnfinished(engine: ImageEngine, work: string): Promise<void> {
  for (const name of await readdir(work).catch(() => [])) {
    const noted = await readNotes(join(work, name, FILE));
    for (const id of noted?.stages ?? []) {
      const info = id === '' ? undefined : await engine.inspect(id);
      if (info === undefined || (info.RepoTags ?? []).length > 0) continue;
      if (new Date(info.Created) >= new Date(noted?.since ?? Number.NaN)) await engine.removeUnused(info.Id);
    }
  }
}

async function readNotes(path: string): Promise<{ readonly since: string; readonly stages: string[] } | undefined> {
  try {
    const notes: unknown = JSON.parse(await readFile(path, 'utf8'));
    if (typeof notes !== 'object' || notes === null) return undefined;
    const { since, stages } = notes as { readonly since?: unknown; readonly stages?: unknown };
    if (typeof since !== 'string' || !Array.isArray(stages)) return undefined;
    return { since, stages: stages.filter((id) => /^[0-9a-f]{12}$/.test(String(id))).map(String) };
  } catch {
    // Nothing was made yet, or it was cut off.
    return undefined;
  }
}
