import type { Logger } from '@lambda-fleet/common/logger';
import { runtimeFamily } from '@lambda-fleet/common/runtime-names';
import type { VersionSpec } from '@lambda-fleet/proto';
import type { ArtifactCache } from '../artifacts/artifact-cache.js';
import type { CodeCache, CodeCacheKey } from '../artifacts/code-cache.js';
import type { LinkedTrees } from '../artifacts/linked-trees.js';
import type { CompiledFile } from '../channel/compiled-files.js';
import type { Sandbox } from '../sandboxes/sandbox.js';
import type { SandboxPool } from '../sandboxes/sandbox-pool.js';
import type { SandboxShape } from '../sandboxes/sandbox-shape.js';

export interface CompiledCodeOptions {
  readonly pool: SandboxPool;
  readonly artifacts: ArtifactCache;
  readonly trees: LinkedTrees;
  readonly cache: CodeCache;
  /** The digest of a runtime that this node has. */
  readonly digestOf: (runtime: string) => string;
  readonly log: Logger;
}

/**
 * Compiling takes a sandbox of its own, which costs the node about as much as a cold start. Code that loads faster than this
 * gains less than that over its life; most functions do.
 */
const WORTH_COMPILING_US = 50_000;

/** Gives sandboxes what was compiled of their code, and has code compiled that takes long to load. */
export class CompiledCode {
  constructor(private readonly options: CompiledCodeOptions) {}

  /** Before the code is loaded. Never rejects. */
  async place(spec: VersionSpec, sandbox: Sandbox): Promise<void> {
    await this.options.cache.place(this.#keyOf(spec, sandbox.shape), sandbox.cacheDir);
  }

  /** The code of a version was loaded in a new sandbox, in this time. */
  loaded(spec: VersionSpec, shape: SandboxShape, initUs: number): void {
    const { cache, pool, log } = this.options;
    if (initUs < WORTH_COMPILING_US || runtimeFamily(shape.runtime) === 'provided' || spec.realm !== '') return;
    const key = this.#keyOf(spec, shape);
    if (!cache.lacks(key)) return;
    const sandbox = pool.spare(shape);
    // The next start asks again.
    if (sandbox === undefined) return;
    void cache
      .make(key, () => this.#compile(spec, sandbox))
      .then(() => {
        // Also when it was not begun, because somebody else is at it.
        sandbox.stop('not_kept');
        log.debug({ function: spec.functionName, version: spec.versionNumber }, 'code_compiler_gone');
      });
  }

  async #compile(spec: VersionSpec, sandbox: Sandbox): Promise<readonly CompiledFile[]> {
    const { pool, artifacts, trees } = this.options;
    const lease = await artifacts.acquire(spec.artifactSha256);
    try {
      await pool.prepare(sandbox);
      await trees.place(lease.tree, lease.files, sandbox.taskDir);
      return await sandbox.compile();
    } finally {
      sandbox.stop('not_kept');
      await sandbox.settled;
      lease.release();
    }
  }

  #keyOf({ artifactSha256 }: VersionSpec, { runtime, isolation, memoryMb }: SandboxShape): CodeCacheKey {
    return { artifactSha256, platform: `${this.options.digestOf(runtime)} ${isolation} ${memoryMb}` };
  }
}
