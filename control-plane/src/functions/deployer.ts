import { FleetError } from '@lambda-fleet/common/errors';
import type { Logger } from '@lambda-fleet/common/logger';
import { v7 as uuidv7 } from 'uuid';
import type { ImageStore } from '../artifacts/image-store.js';
import type { PostgresArtifactStore, StoredArtifact } from '../artifacts/postgres-artifact-store.js';
import type { Invoke } from '../invocations/invocation.js';
import { checkCode } from './check-code.js';
import { archiveOf, type CodeUpload } from './code.js';
import { imageBytes } from './container-image.js';
import { configOf, type DefinitionChanges, type FunctionConfig } from './definition.js';
import { type FunctionRecord, resolvedVersionOf } from './function-record.js';
import { type FunctionDraft, type FunctionTable, functionNotFound, nameTaken } from './function-table.js';
import { checkPackaging } from './packaging.js';
import type { VersionCache } from './version-cache.js';

export interface DeployerOptions {
  readonly functions: FunctionTable;
  readonly artifacts: PostgresArtifactStore;
  readonly images: ImageStore;
  readonly cache: VersionCache;
  readonly invoke: Invoke;
  /** Tells every node to stop idle sandboxes of these versions. Best effort. */
  readonly forgetVersions: (versionIds: readonly string[]) => void;
  readonly log: Logger;
}

export interface Deployed {
  readonly record: FunctionRecord;
  readonly warnings: readonly string[];
  readonly created: boolean;
}

/**
 * Makes versions: upload → check in a sandbox → one statement that makes the
 * version and shows it. Nobody sees a version that was not checked; when the
 * check or the statement fails, what was made for it is given up again.
 */
export class Deployer {
  constructor(private readonly options: DeployerOptions) {}

  /** @throws FleetError `conflict` when the function exists, and what a check throws */
  async create(projectId: string, name: string, changes: DefinitionChanges, code: CodeUpload): Promise<Deployed> {
    if ((await this.options.functions.find(projectId, name)) !== undefined) throw nameTaken(name);
    return this.#deploy(projectId, configOf(name, changes), code, undefined);
  }

  /** Creates or replaces; whatever is left out of a replacement keeps its value. */
  async put(
    projectId: string,
    name: string,
    changes: DefinitionChanges,
    code: CodeUpload | undefined,
  ): Promise<Deployed> {
    const existing = await this.options.functions.find(projectId, name);
    if (existing === undefined && code === undefined) {
      throw new FleetError(
        'invalid_request',
        `code is missing: there is no function "${name}" yet whose code could be kept.`,
        { field: 'code' },
      );
    }
    return this.#deploy(projectId, configOf(name, changes, existing), code, existing);
  }

  /** A new version with other configuration and the same code. */
  async configure(projectId: string, name: string, changes: DefinitionChanges): Promise<Deployed> {
    const existing = await this.#existing(projectId, name);
    return this.#deploy(projectId, configOf(name, changes, existing), undefined, existing);
  }

  /** A new version with other code and the same configuration. */
  async upload(projectId: string, name: string, code: CodeUpload): Promise<Deployed> {
    const existing = await this.#existing(projectId, name);
    return this.#deploy(projectId, existing, code, existing);
  }

  async remove(projectId: string, name: string): Promise<void> {
    const removed = await this.options.functions.remove(projectId, name);
    if (removed === undefined) throw functionNotFound(name);
    this.options.cache.invalidate(removed);
    this.options.forgetVersions(removed.versionIds);
  }

  async #existing(projectId: string, name: string): Promise<FunctionRecord> {
    const existing = await this.options.functions.find(projectId, name);
    if (existing === undefined) throw functionNotFound(name);
    return existing;
  }

  async #deploy(
    projectId: string,
    config: FunctionConfig,
    code: CodeUpload | undefined,
    replaced: FunctionRecord | undefined,
  ): Promise<Deployed> {
    const { functions, artifacts, images, cache, invoke, forgetVersions, log } = this.options;
    checkPackaging(config, code, replaced);
    const image = code !== undefined && 'image' in code ? code.image : undefined;
    let archive = code === undefined || 'image' in code ? undefined : await archiveOf(code, config.runtime);
    let stored: StoredArtifact | undefined;
    if (archive !== undefined) stored = await artifacts.put(projectId, archive);
    if (image !== undefined) stored = await images.put(projectId, image);
    const keptImage = code === undefined ? (replaced?.image ?? null) : null;
    const draft: FunctionDraft = {
      ...config,
      id: replaced?.id ?? uuidv7(),
      projectId,
      versionId: uuidv7(),
      version: (replaced?.version ?? 0) + 1,
      artifactSha256: stored?.sha256 ?? replaced?.artifactSha256 ?? '',
      artifactBytes: (image && imageBytes(image)) ?? stored?.bytes ?? replaced?.artifactBytes ?? 0,
      image: image ?? keptImage,
    };
    const readArchive = async () => {
      archive ??= await this.#readArchive(projectId, draft.artifactSha256);
      return archive;
    };
    const candidate = resolvedVersionOf({ ...draft, asyncMaxAgeMs: 0 });
    try {
      const warnings = await checkCode(invoke, candidate, readArchive);
      const record = replaced === undefined ? await functions.insert(draft) : await functions.replace(replaced, draft);
      cache.invalidate({ projectId, name: draft.name, routes: [draft.route, replaced?.route ?? draft.route] });
      if (replaced !== undefined) forgetVersions([replaced.versionId]);
      log.info({ function: draft.name, version: draft.version, warnings: warnings.length }, 'version_deployed');
      return { record, warnings, created: replaced === undefined };
    } catch (err) {
      forgetVersions([draft.versionId]);
      // The sweep removes what this does not.
      if (stored !== undefined) await artifacts.takeBack(projectId, stored).catch(() => undefined);
      throw err;
    }
  }

  async #readArchive(projectId: string, sha256: string): Promise<Buffer> {
    const chunks: Buffer[] = [];
    for await (const chunk of this.options.artifacts.read(projectId, sha256)) chunks.push(chunk);
    return Buffer.concat(chunks);
  }
}
