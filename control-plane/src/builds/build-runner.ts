import { setTimeout as sleep } from 'node:timers/promises';
import { Backoff } from '@lambda-fleet/common/backoff';
import { errorText, FleetError } from '@lambda-fleet/common/errors';
import type { Logger } from '@lambda-fleet/common/logger';
import { type BuildEnd, BuildOutcome } from '@lambda-fleet/proto';
import { v7 as uuidv7 } from 'uuid';
import type { PostgresArtifactStore } from '../artifacts/postgres-artifact-store.js';
import { type ArchiveUpload, archiveOf } from '../functions/code.js';
import { configOf, type DefinitionChanges } from '../functions/definition.js';
import type { Deployer } from '../functions/deployer.js';
import type { NodeRegistry } from '../nodes/node-registry.js';
import type { BuildFeed } from './build-feed.js';
import type { BuildLog, BuildLogs } from './build-log.js';
import { BuildCancelled, buildOnNode } from './build-on-node.js';
import type { BuildRecord, BuildState } from './build-record.js';
import type { BuildEnding, BuildTable } from './build-table.js';
import { readBuiltImage } from './built-image.js';

export interface BuildRunnerOptions {
  readonly table: BuildTable;
  readonly logs: BuildLogs;
  readonly feed: BuildFeed;
  readonly artifacts: PostgresArtifactStore;
  readonly deployer: Deployer;
  readonly registry: NodeRegistry;
  /** Of an image's layers together, unpacked. */
  readonly imageBytesMax: number;
  readonly log: Logger;
}

/** Builds that this replica runs or keeps waiting. */
const RUNNING_MAX = 50;
const RENEW_MS = 5_000;
const FINISH_TRIES = 8;
/** What a build that is checked, or whose agent is slow to cancel, gets when the control plane stops. */
const CLOSE_MS = 2_000;

interface RunningBuild {
  readonly projectId: string;
  readonly record: BuildRecord;
  readonly changes: DefinitionChanges;
  readonly log: BuildLog;
  readonly cancel: AbortController;
  readonly done: Promise<void>;
}

/**
 * Runs builds from their acceptance to their end: a node builds the image, then it is deployed as archives are. States are those
 * of `docs/container-images.md`, kept in the database; whatever happens in between, a build that this process accepted ends.
 */
export class BuildRunner {
  readonly #running = new Map<string, RunningBuild>();
  readonly #timer: NodeJS.Timeout;
  #closing = false;

  constructor(private readonly options: BuildRunnerOptions) {
    this.#timer = setInterval(() => void this.#renew(), RENEW_MS);
    this.#timer.unref();
  }

  /**
   * Stores the context and returns at once; the build goes on by itself.
   *
   * @throws FleetError `invalid_archive`, `archive_too_large`, `invalid_request`, `throttled`
   */
  async start(projectId: string, name: string, asked: DefinitionChanges, code: ArchiveUpload): Promise<BuildRecord> {
    const { table, artifacts, logs } = this.options;
    if (this.#running.size >= RUNNING_MAX) {
      throw new FleetError('throttled', `${RUNNING_MAX} builds are running or waiting already. Try again later.`);
    }
    const changes = { ...asked, runtime: asked.runtime ?? 'image' };
    if (changes.runtime !== 'image') {
      throw new FleetError('invalid_request', `runtime is "${changes.runtime}", and an image is built for "image".`, {
        field: 'runtime',
      });
    }
    const archive = await archiveOf(code, configOf(name, changes).runtime);
    const context = await artifacts.put(projectId, archive);
    const record = await table.insert(projectId, uuidv7(), name, context);
    const log = logs.open(projectId, record.id);
    const begun: Omit<RunningBuild, 'done'> = { projectId, record, changes, log, cancel: new AbortController() };
    // Registered in the same turn as it starts: a cancel that follows finds it.
    const done = this.#run(begun);
    this.#running.set(record.id, { ...begun, done });
    return record;
  }

  /** Asks for the end of a build, whichever replica runs it. One that is being checked, or has ended, stays as it is. */
  async cancel(projectId: string, name: string, id: string): Promise<void> {
    await this.options.table.requestCancel(projectId, name, id);
    this.#running.get(id)?.cancel.abort();
  }

  /** Ends all builds as failed. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    this.#closing = true;
    const running = [...this.#running.values()];
    for (const build of running) build.cancel.abort();
    await Promise.race([Promise.all(running.map(({ done }) => done)), sleep(CLOSE_MS)]);
  }

  async #run(build: Omit<RunningBuild, 'done'>): Promise<void> {
    const { id } = build.record;
    const { logs, feed, log } = this.options;
    let ending: BuildEnding;
    try {
      ending = await this.#build(build);
    } catch (err) {
      ending = endingOf(err, this.#closing);
      if (!(err instanceof FleetError || err instanceof BuildCancelled)) log.error({ err, build: id }, 'build_crashed');
    }
    try {
      await build.log.settled();
      await this.#finish(id, ending);
    } finally {
      this.#running.delete(id);
      logs.forget(id);
      feed.changed(id);
    }
    log.info({ build: id, function: build.record.functionName, state: ending.state }, 'build_ended');
  }

  async #build({ projectId, record, changes, log, cancel }: Omit<RunningBuild, 'done'>): Promise<BuildEnding> {
    const { registry, deployer, imageBytesMax } = this.options;
    const { id, functionName } = record;
    const { end, nodeId } = await buildOnNode(registry, {
      projectId,
      build: {
        buildId: id,
        cacheKey: `${projectId}/${functionName}`,
        contextSha256: record.contextSha256,
        imageBytesMax,
      },
      log,
      cancelled: cancel.signal,
      onGiven: (node) => this.#advance(id, 'building', node),
    });
    throwUnlessBuilt(end, nodeId);
    const image = readBuiltImage(end.image, imageBytesMax);
    // Whoever follows the build reads its output before its next state.
    await log.settled();
    await this.#advance(id, 'checking', nodeId);
    const { record: version, warnings } = await deployer.put(projectId, functionName, changes, { image });
    return { state: 'succeeded', version: version.version, warnings };
  }

  /** That it cannot be shown where a build stands is no reason to end it. */
  async #advance(id: string, state: BuildState, nodeId: string): Promise<void> {
    const { table, feed, log } = this.options;
    try {
      await table.advance(id, state, nodeId);
      feed.changed(id);
    } catch (err) {
      log.warn({ err, build: id, state }, 'build_state_not_recorded');
    }
  }

  /** The database may be away for a while; what it never hears is found by the sweep. */
  async #finish(id: string, ending: BuildEnding): Promise<void> {
    const backoff = new Backoff({ firstMs: 250, capMs: 5_000 });
    for (let attempt = 1; ; attempt += 1) {
      try {
        await this.options.table.finish(id, ending);
        return;
      } catch (err) {
        if (attempt === FINISH_TRIES) {
          this.options.log.error({ err, build: id }, 'build_end_not_recorded');
          return;
        }
        await sleep(backoff.next());
      }
    }
  }

  async #renew(): Promise<void> {
    try {
      const cancelled = await this.options.table.renew([...this.#running.keys()]);
      for (const id of cancelled) this.#running.get(id)?.cancel.abort();
    } catch {
      // `run` has logged it; the next round tries again, well before anybody takes the builds for abandoned.
    }
  }
}

function throwUnlessBuilt({ outcome, detail }: BuildEnd, nodeId: string): void {
  const reason = detail.slice(0, 4_000).toWellFormed().replaceAll('\0', '');
  switch (outcome) {
    case BuildOutcome.SUCCEEDED:
      return;
    case BuildOutcome.CANCELLED:
      throw new BuildCancelled();
    case BuildOutcome.FAILED:
      throw new FleetError('build_failed', `The image could not be built: ${reason}`);
    default:
      throw new FleetError('unavailable', `The node ${nodeId} could not build the image: ${reason}`);
  }
}

function endingOf(err: unknown, closing: boolean): BuildEnding {
  if (err instanceof BuildCancelled && closing) {
    const message = 'The control plane was stopped. Nothing was deployed; deploy again.';
    return { state: 'failed', code: 'unavailable', message };
  }
  if (err instanceof BuildCancelled) return { state: 'cancelled' };
  if (err instanceof FleetError) return { state: 'failed', code: err.code, message: err.message };
  return {
    state: 'failed',
    code: 'internal',
    message: `A fault of the control plane ended the build: ${errorText(err)}`,
  };
}
