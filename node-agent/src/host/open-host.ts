import { mkdir, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { defaultDockerHost } from '@lambda-fleet/common/docker-host';
import type { Logger } from '@lambda-fleet/common/logger';
import type { RuntimeOffer, SelfTestCheck } from '@lambda-fleet/proto';
import { ArtifactCache } from '../artifacts/artifact-cache.js';
import { CodeCache } from '../artifacts/code-cache.js';
import { LinkedTrees } from '../artifacts/linked-trees.js';
import {
  type AlterSpec,
  DockerDriver,
  type EgressOptions,
  type FunctionImages,
} from '../drivers/docker/docker-driver.js';
import type { ChannelTransport } from '../drivers/docker/engine-location.js';
import { DEFAULT_IMAGE_PREFIX } from '../drivers/docker/runtime-images.js';
import { ProcessDriver } from '../drivers/process/process-driver.js';
import type { SandboxDriver } from '../drivers/sandbox-driver.js';
import { ImageCache } from '../images/image-cache.js';
import { ImageEngine } from '../images/image-engine.js';
import { openStaticInit } from '../images/static-init.js';
import { CompiledCode } from '../invocations/compiled-code.js';
import type { FetchArtifact } from '../invocations/invocation.js';
import { InvocationRunner } from '../invocations/invocation-runner.js';
import type { HostOffer } from '../invocations/shape-of.js';
import type { AgentFigures } from '../metrics/agent-metrics.js';
import { LeakWatch } from '../sandboxes/leak-watch.js';
import { SandboxPlaces } from '../sandboxes/sandbox-directories.js';
import { SandboxPool } from '../sandboxes/sandbox-pool.js';
import { TriedDriver } from '../trials/tried-driver.js';
import { availableMemoryBytes } from './available-memory.js';
import { ownerOf } from './owner.js';
import { RememberedKinds } from './remembered-kinds.js';
import { openSocketRoot } from './socket-root.js';
import { openWorkDir } from './work-dir.js';

const DEFAULT_IMAGE_BYTES_MAX = 20 * 1024 * 1024 * 1024;

export interface HostOptions {
  readonly nodeId: string;
  /** This agent's own directory; made when missing. */
  readonly dataDir: string;
  readonly driver: 'docker' | 'process';
  /** For all sandboxes together, bytes. */
  readonly memoryBytes: number;
  /** Sandboxes at the same time. */
  readonly slots: number;
  /** Blanks at the same time; 0 keeps none. */
  readonly blanks: number;
  /** Unused artifacts are removed above it, bytes. Default 10 GiB. */
  readonly artifactBytesMax?: number | undefined;
  readonly fetchArtifact: FetchArtifact;
  /** `DOCKER_HOST`; undefined is the engine's default socket. */
  readonly dockerHost?: string | undefined;
  /** Images are named prefix + runtime + `:current`. Default `lambda-fleet/runtime-`. */
  readonly imagePrefix?: string | undefined;
  /** Docker driver. Default `auto`. */
  readonly channelTransport?: ChannelTransport | undefined;
  /** Docker driver: see its options. */
  readonly sharesKernel?: boolean | undefined;
  /** Docker driver: see its options. */
  readonly egress?: EgressOptions | undefined;
  /** Docker driver: whether gVisor is offered where the engine has it. Default true. */
  readonly gvisor?: boolean | undefined;
  /** Docker driver: start one sandbox of each kind in the background, and stop offering those that do not work. Default false. */
  readonly trySandboxes?: boolean | undefined;
  /** Docker driver: container images that no sandbox uses are removed above it, bytes. Default 20 GiB. */
  readonly imageBytesMax?: number | undefined;
  /** Docker driver: see its options. */
  readonly alterSpec?: AlterSpec | undefined;
  /** Process driver: the Node runtime's file and the Python runtime's folder (undefined offers no Python). */
  readonly nodeRuntime: string;
  readonly pythonRuntime?: string | undefined;
  /** Process driver: the static init's file; where it is not there, `provided` is not offered. */
  readonly providedInit?: string | undefined;
  /** `XDG_RUNTIME_DIR`, where it is set. */
  readonly runtimeDir?: string | undefined;
  /** `os.tmpdir()`. */
  readonly tmpDir: string;
  /** What the machine could still give to programs. Default: as the kernel says. */
  readonly availableBytes?: (() => number | undefined) | undefined;
  /** How often to look for leaked sandboxes and a full disk. Default one minute. */
  readonly housekeepingMs?: number | undefined;
  readonly log: Logger;
}

const DEFAULT_HOUSEKEEPING_MS = 60_000;

/** What this machine offers as a node. */
export interface Host {
  readonly runner: InvocationRunner;
  readonly driver: SandboxDriver;
  /** What to offer in Hello. */
  readonly runtimes: readonly RuntimeOffer[];
  /** For metrics. */
  figures(): AgentFigures;
  /** Looks for sandboxes that belong to nobody; those are counted in the runner's load then. Never rejects. */
  lookForLeaks(): Promise<void>;
  /** Calls the listener when the driver's isolation or networks have changed. */
  onOfferChange(listener: () => void): void;
  /** What was tried of each kind of sandbox so far; nothing where nothing is tried. */
  selfTest(): SelfTestCheck[];
  /** Calls the listener when more was tried. One listener. */
  onSelfTest(listener: () => void): void;
  /** Ends what runs, stops all sandboxes and removes the sockets' folder; about 9 s at most. Never rejects. */
  close(): Promise<void>;
}

/**
 * Prepares the machine for running functions: directories, driver, removal of what an earlier agent left behind, artifact
 * cache and pool. Rejects with a reason for people.
 */
export async function openHost(options: HostOptions): Promise<Host> {
  const { dataDir, log, housekeepingMs = DEFAULT_HOUSEKEEPING_MS } = options;
  await mkdir(dataDir, { recursive: true });
  const owner = await ownerOf(options.nodeId, dataDir);
  const uid = process.getuid?.() ?? 0;
  const readByOthers = options.driver === 'process' && uid === 0;
  const workDir = await openWorkDir({ dataDir, owner, readByOthers, log });
  const socketRoot = await openSocketRoot({
    owner,
    uid,
    runtimeDir: options.runtimeDir,
    tmpDir: options.tmpDir,
  });
  const opened = await openDriver(options, owner, workDir);
  const leftovers = await opened.removeLeftovers();
  if (leftovers > 0) log.warn({ leftovers }, 'leftover_sandboxes_removed');
  const places = new SandboxPlaces(join(workDir, 'sandboxes'), socketRoot);
  await places.clear();
  const tried = options.trySandboxes === true ? new TriedDriver({ driver: opened, places, log }) : undefined;
  const driver = tried ?? opened;
  const artifacts = await ArtifactCache.open({
    directory: join(workDir, 'artifacts'),
    bytesHigh: options.artifactBytesMax,
    fetchArtifact: options.fetchArtifact,
    log,
  });
  const runtimes = await driver.runtimes();
  const memoryBytes = Math.min(options.memoryBytes, driver.memoryBytesMax ?? Number.POSITIVE_INFINITY);
  if (memoryBytes < options.memoryBytes)
    log.warn({ memoryBytes, asked: options.memoryBytes }, 'memory_of_engine_is_less');
  const remembered = new RememberedKinds(join(workDir, 'blank-kinds.json'), log);
  const names = new Set(runtimes.map(({ name }) => name));
  const offer: HostOffer = {
    runtimes: names,
    get isolation() {
      return driver.isolation;
    },
    get networks() {
      return driver.networks;
    },
  };
  const pool = new SandboxPool({
    driver,
    places,
    memoryBytes,
    slots: options.slots,
    blanks: options.blanks,
    rememberedKinds: (await remembered.load()).filter(
      (kind) =>
        names.has(kind.runtime) && offer.isolation.includes(kind.isolation) && offer.networks.includes(kind.network),
    ),
    rememberKinds: (kinds) => remembered.save(kinds),
    // Of another machine's memory this one knows nothing.
    availableBytes:
      options.availableBytes ?? (driver.memoryBytesMax === undefined ? availableMemoryBytes : () => undefined),
    log,
  });
  const trees = new LinkedTrees(log);
  const codeCache = await CodeCache.open({ directory: join(workDir, 'compiled'), trees, log });
  const digests = new Map(runtimes.map(({ name, digest }) => [String(name), digest]));
  const digestOf = (runtime: string) => digests.get(runtime) ?? '';
  const compiled = new CompiledCode({ pool, artifacts, trees, cache: codeCache, digestOf, log });
  const runner = new InvocationRunner({ pool, artifacts, trees, compiled, offer, log });
  const leaks = new LeakWatch({
    driver,
    knows: (id) => pool.knows(id),
    onStrangers: (count) => {
      pool.strangers = count;
    },
    intervalMs: housekeepingMs,
    log,
  });
  // Others may fill the disk too.
  const tidying = setInterval(() => void artifacts.tidy(), housekeepingMs);
  const close = async (): Promise<void> => {
    clearInterval(tidying);
    await Promise.all([runner.close(), tried?.giveUp(), leaks.close()]);
    await Promise.all([driver.close?.(), trees.close(), codeCache.close()]);
    await remembered.flushed();
    await rmdir(socketRoot).catch((err: unknown) => log.warn({ err, socketRoot }, 'socket_root_not_removed'));
  };
  void tried?.tryAll();
  return {
    runner,
    driver,
    runtimes,
    figures: () => ({ pool: pool.figures(), artifactCacheBytes: artifacts.bytes }),
    lookForLeaks: () => leaks.look(),
    onOfferChange: (listener) => driver.onOfferChange?.(listener),
    selfTest: () => tried?.selfTest ?? [],
    onSelfTest: (listener) => tried?.onSelfTest(listener),
    close,
  };
}

async function openDriver(options: HostOptions, owner: string, workDir: string): Promise<SandboxDriver> {
  if (options.driver === 'docker') {
    const { nodeId, dockerHost, imagePrefix, channelTransport, sharesKernel, egress, gvisor, alterSpec, log } = options;
    const functionImages = await openFunctionImages(options, workDir);
    return DockerDriver.open({
      ...{
        nodeId,
        owner,
        dockerHost,
        imagePrefix,
        channelTransport,
        sharesKernel,
        functionImages,
        egress,
        gvisor,
        alterSpec,
        log,
      },
    });
  }
  const { nodeRuntime, pythonRuntime, providedInit } = options;
  return ProcessDriver.open({ owner, workDir, nodeRuntime, pythonRuntime, providedInit });
}

/** What container images of functions need of this machine; undefined where it cannot run them. */
async function openFunctionImages(options: HostOptions, workDir: string): Promise<FunctionImages | undefined> {
  const { imageBytesMax = DEFAULT_IMAGE_BYTES_MAX, dockerHost, fetchArtifact, log } = options;
  const { imagePrefix = DEFAULT_IMAGE_PREFIX } = options;
  const engine = await ImageEngine.connect(dockerHost ?? defaultDockerHost());
  const init = await openStaticInit(engine, `${imagePrefix}provided:current`, workDir);
  if (init === undefined) {
    log.warn('no_container_images: the engine has no image of the runtime provided, whose init starts them');
    return undefined;
  }
  const cache = await ImageCache.open({ engine, fetchArtifact, bytesMax: imageBytesMax, log });
  return { cache, init };
}
