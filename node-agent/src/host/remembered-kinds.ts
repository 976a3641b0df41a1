import { readFile, rename, writeFile } from 'node:fs/promises';
import type { Logger } from '@lambda-fleet/common/logger';
import { isRuntimeName } from '@lambda-fleet/common/runtime-names';
import { z } from 'zod';
import type { SandboxKind } from '../sandboxes/sandbox-kind.js';

const KINDS_MAX = 16;

const kinds = z.array(
  z.object({
    runtime: z.string().refine(isRuntimeName),
    isolation: z.enum(['runc', 'gvisor', 'none']),
    network: z.enum(['none', 'egress']),
    heapMemoryMb: z.number().int().min(0),
    fixedLimits: z.object({ memoryMb: z.number(), cpus: z.number() }).optional(),
  }),
);

/**
 * Which kinds of blanks were wanted, in a file of the agent's data directory, so that the first calls after a restart find
 * some. It is a hint: lost or damaged, it costs a few cold starts.
 */
export class RememberedKinds {
  #writing: Promise<void> = Promise.resolve();

  constructor(
    private readonly path: string,
    private readonly log: Logger,
  ) {}

  async load(): Promise<readonly SandboxKind[]> {
    try {
      const found = kinds.parse(JSON.parse(await readFile(this.path, 'utf8')));
      return found.map((kind) => ({ ...kind, fixedLimits: kind.fixedLimits })) as SandboxKind[];
    } catch (err) {
      const missing = err instanceof Error && 'code' in err && err.code === 'ENOENT';
      if (!missing) this.log.warn({ err, path: this.path }, 'blank_kinds_unreadable');
      return [];
    }
  }

  save(wanted: readonly SandboxKind[]): void {
    const text = JSON.stringify(wanted.slice(0, KINDS_MAX));
    this.#writing = this.#writing.then(() => this.#write(text));
  }

  /** Resolves when what was saved stands on disk, or cannot. */
  flushed(): Promise<void> {
    return this.#writing;
  }

  async #write(text: string): Promise<void> {
    try {
      await writeFile(`${this.path}.new`, text);
      await rename(`${this.path}.new`, this.path);
    } catch (err) {
      this.log.warn({ err, path: this.path }, 'blank_kinds_not_written');
    }
  }
}
