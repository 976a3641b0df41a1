import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { errorText, FleetError } from '@lambda-fleet/common/errors';
import type { Logger } from '@lambda-fleet/common/logger';
import { type Build, type BuildEnd, type BuildLine, BuildOutcome, type BuiltImage } from '@lambda-fleet/proto';
import type { ImageInspectInfo } from 'dockerode';
import { ReadBudget } from '../channel/read-budget.js';
import { CPU_PERIOD_US, cpuQuotaUs } from '../drivers/docker/cgroup.js';
import type { FetchArtifact } from '../invocations/invocation.js';
import { BuildCache } from './build-cache.js';
import { BuildContainers } from './build-containers.js';
import { openContext } from './build-context.js';
import { BuildJournal, removeUnfinished } from './build-journal.js';
import { BuildOutput } from './build-output.js';
import { BuilderMessages, BuildFailed } from './builder-messages.js';
import { watchDisk } from './disk-watch.js';
import type { EngineFacts, ImageEngine } from './image-engine.js';
import { exportImage, type StoredLayers } from './image-exporter.js';
import { jsonLines } from './json-lines.js';

export interface BuildLimits {
  readonly memoryBytes: number;
  readonly cpus: number;
  /** From taking the build to the last layer being stored. */
  readonly timeoutMs: number;
  /** Of the engine's disk. */
  readonly diskBytes: number;
}

export interface ImageBuilderOptions {
  readonly engine: ImageEngine;
  readonly layers: StoredLayers;
  readonly fetchArtifact: FetchArtifact;
  /** The builder's own. */
  readonly directory: string;
  readonly owner: string;
  readonly limits: BuildLimits;
  /** `none` takes the network from the steps; `auto` is the engine's default, or the host's where it has none. */
  readonly network: 'auto' | 'none';
  readonly log: Logger;
}

/** Who gave the build. */
export interface BuildSink {
  log(lines: BuildLine[]): void;
  /** Once for every build, after its last line. */
  ended(end: BuildEnd): void;
}

/** Of the builder's messages. A step that writes faster waits, which its time counts for. */
const OUTPUT_LIMITS = { perSecond: 2 * 1024 * 1024, burst: 8 * 1024 * 1024 };
const MESSAGE_COST_BYTES = 256;
const CLOSE_MS = 5_000;
const KILLED = /returned a non-zero code: 137$/;

/** Why a build was ended from outside. */
class Ended extends Error {
  constructor(
    readonly outcome: BuildOutcome,
    reason: string,
  ) {
    super(reason);
  }
}

interface Running {
  readonly buildId: string;
  readonly abort: AbortController;
  readonly done: Promise<void>;
}

/**
 * Builds container images, one at a time: context → engine's classic builder → layers to the artifact store. States: idle → busy (one
 * {@link Running}) → idle; a build that comes while it is busy is refused. Whatever happens, a build leaves no container
 * and no file, and no image but those of a build that succeeded, which are the cache of the next one.
 */
export class ImageBuilder {
  #running: Running | undefined;
  #closed = false;

  private constructor(
    private readonly options: ImageBuilderOptions,
    private readonly facts: EngineFacts,
    private readonly containers: BuildContainers,
    private readonly cache: BuildCache,
  ) {}

  /** Removes what an earlier agent left behind. */
  static async open(options: ImageBuilderOptions): Promise<ImageBuilder> {
    const { engine, directory, owner, log } = options;
    await mkdir(directory, { recursive: true });
    const facts = await engine.facts();
    const containers = new BuildContainers(engine, owner, facts.cgroupDriver, log);
    const left = await containers.removeLeftovers();
    if (left > 0) log.warn({ left }, 'leftover_build_containers_removed');
    await removeUnfinished(engine, join(directory, 'work'));
    await rm(join(directory, 'work'), { recursive: true, force: true });
    await mkdir(join(directory, 'work'));
    const cache = await BuildCache.open(engine, join(directory, 'cache.json'), owner);
    if (!facts.hasBridge && options.network === 'auto') log.warn('builds_share_the_network_of_the_host');
    return new ImageBuilder(options, facts, containers, cache);
  }

  /** Returns at once; the sink is told the rest. */
  start(build: Build, sink: BuildSink): void {
    const { buildId } = build;
    if (this.#running !== undefined || this.#closed) {
      const detail = this.#closed ? 'the agent is stopping' : 'it builds another image';
      sink.ended({ buildId, outcome: BuildOutcome.REFUSED, detail, image: undefined });
      return;
    }
    const abort = new AbortController();
    this.#running = { buildId, abort, done: this.#run(build, sink, abort) };
  }

  cancel(buildId: string): void {
    if (this.#running?.buildId === buildId) this.#end(new Ended(BuildOutcome.CANCELLED, 'it was cancelled'));
  }

  /** The control plane that gave the build is gone. */
  abandon(buildId: string): void {
    if (this.#running?.buildId !== buildId) return;
    this.#end(new Ended(BuildOutcome.NODE_FAILED, 'the link to the control plane broke'));
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#end(new Ended(BuildOutcome.NODE_FAILED, 'the agent was stopped'));
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, CLOSE_MS);
    });
    await Promise.race([this.#running?.done, late]);
    clearTimeout(timer);
  }

  #end(reason: Ended): void {
    this.#running?.abort.abort(reason);
  }

  async #run(build: Build, sink: BuildSink, abort: AbortController): Promise<void> {
    // Not in the turn of `start`, which has to note that this runs.
    await Promise.resolve();
    const { limits, log } = this.options;
    const { buildId } = build;
    const output = new BuildOutput((lines) => sink.log(lines));
    const timeout = setTimeout(() => {
      const seconds = Math.round(limits.timeoutMs / 1_000);
      abort.abort(
        new Ended(BuildOutcome.FAILED, `it took longer than ${seconds} s, the longest a build may take here`),
      );
    }, limits.timeoutMs);
    let end: Omit<BuildEnd, 'buildId'>;
    try {
      const image = await this.#build(build, output, abort);
      end = { outcome: BuildOutcome.SUCCEEDED, detail: '', image };
    } catch (err) {
      end = { ...judge(abort.signal.aborted ? abort.signal.reason : err), image: undefined };
      log.info({ build: buildId, reason: end.detail }, 'build_not_done');
    }
    clearTimeout(timeout);
    // Ends the watches.
    abort.abort();
    this.#running = undefined;
    output.finish();
    sink.ended({ buildId, ...end });
  }

  async #build(build: Build, output: BuildOutput, abort: AbortController): Promise<BuiltImage> {
    const { engine, layers, fetchArtifact, directory, limits, log } = this.options;
    const { signal } = abort;
    const work = await mkdtemp(join(directory, 'work', 'build-'));
    const before = new Set(await engine.imageIds());
    const journal = new BuildJournal(work);
    const messages = new BuilderMessages(
      (text) => output.push(text),
      () => journal.note(messages.stages),
    );
    let context: Readable | undefined;
    let kept = false;
    try {
      context = await openContext(fetchArtifact, build.contextSha256, work);
      await this.containers.watch(signal);
      await watchDisk(this.facts.rootDir, limits.diskBytes, signal, (reason) => {
        abort.abort(new Ended(BuildOutcome.FAILED, reason));
      });
      signal.throwIfAborted();
      await this.#follow(await engine.build({ context, options: this.#engineOptions(), signal }), messages);
      signal.throwIfAborted();
      const image = await exportImage(engine, layers, {
        ...{
          buildId: build.buildId,
          imageId: messages.imageId,
          bytesMax: build.imageBytesMax,
          directory: work,
          signal,
        },
        say: (text) => output.platform(text),
      });
      kept = true;
      await this.#keepCache(build.cacheKey, messages, before);
      return image;
    } catch (err) {
      if (!(err instanceof BuildFailed && KILLED.test(err.message))) throw err;
      const megabytes = Math.floor(limits.memoryBytes / (1024 * 1024));
      throw new BuildFailed(`${err.message} (it was killed; a step may use ${megabytes} MB of memory)`);
    } finally {
      context?.destroy();
      try {
        await this.containers.remove();
        if (!kept) await this.#removeImages(messages, before);
        await rm(work, { recursive: true, force: true });
      } catch (err) {
        log.error({ err, build: build.buildId }, 'build_not_cleaned_up');
      }
    }
  }

  #engineOptions() {
    const { limits, network } = this.options;
    const networkmode = network === 'none' ? 'none' : this.facts.hasBridge ? undefined : 'host';
    return {
      // The classic builder: BuildKit would need a session, and cannot be limited.
      version: '1' as const,
      ...(networkmode === undefined ? {} : { networkmode }),
      memory: limits.memoryBytes,
      memswap: limits.memoryBytes,
      cpuperiod: CPU_PERIOD_US,
      cpuquota: cpuQuotaUs(limits.cpus),
      cgroupparent: this.containers.cgroupParent,
      rm: true,
      forcerm: true,
      labels: { 'lambda.build': this.options.owner },
    };
  }

  /** Reads no faster than a flood may cost: the step that writes it waits meanwhile. */
  async #follow(stream: Readable, messages: BuilderMessages): Promise<void> {
    let open = () => {};
    let gate: Promise<void> | undefined;
    const reads = new ReadBudget({
      ...OUTPUT_LIMITS,
      pause: () => {
        gate = new Promise((resolve) => {
          open = resolve;
        });
      },
      resume: () => open(),
    });
    try {
      for await (const message of jsonLines(stream)) {
        messages.take(message);
        reads.spend(MESSAGE_COST_BYTES + (typeof message.stream === 'string' ? message.stream.length : 0));
        await gate;
      }
    } finally {
      reads.lift();
      stream.destroy();
    }
  }

  async #keepCache(key: string, messages: BuilderMessages, before: ReadonlySet<string>): Promise<void> {
    try {
      // Stages that came from the cache, too.
      const stages = await this.#made(messages, (info) => isNew(info, before) || this.cache.keeps(info.RepoTags ?? []));
      await this.cache.keep(key, [...new Set([messages.imageId, ...stages])]);
    } catch (err) {
      // The next build starts from the beginning, and nothing else.
      this.options.log.warn({ err }, 'build_cache_not_kept');
    }
  }

  /** Removing the newest image of a stage removes those that only it stood on. */
  async #removeImages(messages: BuilderMessages, before: ReadonlySet<string>): Promise<void> {
    const made = await this.#made(messages, (info) => isNew(info, before));
    for (const id of made) await this.options.engine.removeUnused(id);
  }

  /** Full ids of images that the builder said it made. It quotes the steps' own words, so not every one is believed. */
  async #made(messages: BuilderMessages, isBelieved: (info: ImageInspectInfo) => boolean): Promise<string[]> {
    const made = new Set<string>();
    for (const id of [...messages.stages, messages.imageId]) {
      const info = id === '' ? undefined : await this.options.engine.inspect(id);
      if (info !== undefined && isBelieved(info)) made.add(info.Id);
    }
    return [...made];
  }
}

/** Made since the build began, and nobody's. */
function isNew({ Id, RepoTags }: ImageInspectInfo, before: ReadonlySet<string>): boolean {
  return !before.has(Id) && (RepoTags ?? []).length === 0;
}

function judge(err: unknown): { outcome: BuildOutcome; detail: string } {
  if (err instanceof Ended) return { outcome: err.outcome, detail: err.message };
  const refused = err instanceof BuildFailed || (err instanceof FleetError && err.fault === 'caller');
  if (refused) return { outcome: BuildOutcome.FAILED, detail: (err as Error).message };
  return { outcome: BuildOutcome.NODE_FAILED, detail: errorText(err) };
}
