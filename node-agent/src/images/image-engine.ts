import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { errorText } from '@lambda-fleet/common/errors';
import type Docker from 'dockerode';
import type { ContainerInspectInfo, ImageBuildOptions, ImageInspectInfo } from 'dockerode';
import { Parser } from 'tar';
import { absent, bounded, connectionOptions, hasStatus } from '../drivers/docker/engine-client.js';
import { BuildFailed } from './builder-messages.js';
import { jsonLines, reportedError } from './json-lines.js';

const LOOK_DEADLINE_MS = 10_000;
/** A large image takes the engine's disk a while. */
const REMOVE_DEADLINE_MS = 60_000;
const REMOVE_TRIES = 6;
const REMOVE_AGAIN_MS = 250;

export interface EngineFacts {
  /** `cgroupfs` or `systemd`: how parents of cgroups are named. */
  readonly cgroupDriver: string;
  /** Where the engine keeps its layers, on its own machine. */
  readonly rootDir: string;
  /** Whether containers get a bridge unless they are told otherwise. */
  readonly hasBridge: boolean;
}

export interface BuildRequest {
  /** A tar stream. */
  readonly context: Readable;
  readonly options: ImageBuildOptions & Readonly<Record<string, unknown>>;
  /** Aborting it ends the build, and the engine removes its container. */
  readonly signal: AbortSignal;
}

/** The calls to a Docker engine that build, read and write images. Each has a deadline, or a signal where it may take long. */
export class ImageEngine {
  private constructor(private readonly docker: Docker) {}

  static async connect(host: string): Promise<ImageEngine> {
    const { default: DockerClient } = await import('dockerode');
    return new ImageEngine(new DockerClient(connectionOptions(host)));
  }

  async facts(): Promise<EngineFacts> {
    const [info, networks] = await Promise.all([
      bounded('asking the engine', LOOK_DEADLINE_MS, () => this.docker.info()),
      bounded('listing networks', LOOK_DEADLINE_MS, () => this.docker.listNetworks()),
    ]);
    return {
      cgroupDriver: String(info.CgroupDriver),
      rootDir: String(info.DockerRootDir),
      hasBridge: networks.some(({ Driver }) => Driver === 'bridge'),
    };
  }

  /**
   * The engine's messages, as they come.
   *
   * @throws BuildFailed when it refuses the Dockerfile as it stands
   */
  async build({ context, options, signal }: BuildRequest): Promise<Readable> {
    try {
      const stream = await this.docker.buildImage(context, { ...options, abortSignal: signal } as ImageBuildOptions);
      return stream as Readable;
    } catch (err) {
      throw hasStatus(err, 400) ? new BuildFailed(engineWords(err)) : err;
    }
  }

  /** Undefined when there is no such image. */
  inspect(name: string): Promise<ImageInspectInfo | undefined> {
    return bounded('inspecting an image', LOOK_DEADLINE_MS, () => absent(this.docker.getImage(name).inspect()));
  }

  /** Ids of all images, those that only others stand on included. */
  async imageIds(): Promise<readonly string[]> {
    const images = await bounded('listing images', LOOK_DEADLINE_MS, () => this.docker.listImages({ all: true }));
    return images.map(({ Id }) => Id);
  }

  /** Tags of a repository, without its name. */
  async tagsOf(repository: string): Promise<readonly string[]> {
    const filters = { reference: [repository] };
    const images = await bounded('listing images', LOOK_DEADLINE_MS, () => this.docker.listImages({ filters }));
    return images
      .flatMap(({ RepoTags }) => RepoTags ?? [])
      .filter((name) => name.startsWith(`${repository}:`))
      .map((name) => name.slice(repository.length + 1));
  }

  /** The archive of an image, as `docker save` writes it. Ends with an error when the signal is aborted. */
  async save(id: string, signal: AbortSignal): Promise<Readable> {
    const stream = (await abortable(signal, this.docker.getImage(id).get())) as Readable;
    const abort = () => stream.destroy(new Error('the export was given up'));
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort, { once: true });
    stream.once('close', () => signal.removeEventListener('abort', abort));
    return stream;
  }

  /** Takes an archive in. Rejects with the engine's own words, or with what the archive's source threw. */
  async load(archive: Readable, signal: AbortSignal): Promise<void> {
    const abort = new AbortController();
    let sourceError: unknown;
    archive.once('error', (err) => {
      sourceError = err;
      abort.abort(err);
    });
    try {
      const abortSignal = AbortSignal.any([signal, abort.signal]);
      const options = { quiet: '1', abortSignal } as object;
      const stream = (await this.docker.loadImage(archive, options)) as Readable;
      for await (const message of jsonLines(stream)) {
        const error = reportedError(message);
        if (error !== undefined) throw new Error(error);
      }
    } catch (err) {
      throw sourceError ?? err;
    } finally {
      archive.destroy();
    }
  }

  async tag(id: string, repo: string, tag: string): Promise<void> {
    await bounded('naming an image', LOOK_DEADLINE_MS, () => this.docker.getImage(id).tag({ repo, tag }));
  }

  /** Removes a name or an image, and what only it stood on. False when something still uses it; true also when it is gone already. */
  async remove(name: string): Promise<boolean> {
    return bounded('removing an image', REMOVE_DEADLINE_MS, async (abortSignal) => {
      try {
        await absent(this.docker.getImage(name).remove({ abortSignal } as object));
        return true;
      } catch (err) {
        if (hasStatus(err, 409)) return false;
        throw err;
      }
    });
  }

  /** One file of an image, through a container that is never started. */
  async readFile(imageId: string, path: string): Promise<Buffer> {
    const container = await bounded('creating a container', LOOK_DEADLINE_MS, (abortSignal) =>
      this.docker.createContainer({ Image: imageId, NetworkDisabled: true, abortSignal }),
    );
    try {
      const archive = await bounded('reading a file of an image', LOOK_DEADLINE_MS, () =>
        container.getArchive({ path }),
      );
      return await onlyFile(archive as Readable);
    } finally {
      await this.removeContainer(container.id);
    }
  }

  /** Like {@link remove}, for an image whose last container is only just going: the engine needs a moment to notice. */
  async removeUnused(id: string): Promise<void> {
    for (let attempt = 1; !(await this.remove(id)) && attempt < REMOVE_TRIES; attempt += 1)
      await sleep(REMOVE_AGAIN_MS);
  }

  /** Ids of containers that are made from now on, until the signal is aborted. */
  async newContainers(signal: AbortSignal): Promise<AsyncIterable<string>> {
    const stream = await this.docker.getEvents({
      filters: { type: ['container'], event: ['create'] },
      abortSignal: signal,
    });
    return idsOf(stream as Readable);
  }

  inspectContainer(id: string): Promise<ContainerInspectInfo | undefined> {
    return bounded('inspecting a container', LOOK_DEADLINE_MS, (abortSignal) =>
      absent(this.docker.getContainer(id).inspect({ abortSignal })),
    );
  }

  async limitProcesses(containerId: string, pids: number): Promise<void> {
    await bounded('limiting a container', LOOK_DEADLINE_MS, (abortSignal) =>
      absent(this.docker.getContainer(containerId).update({ PidsLimit: pids, abortSignal })),
    );
  }

  async containerIds(): Promise<readonly string[]> {
    const containers = await bounded('listing containers', LOOK_DEADLINE_MS, (abortSignal) =>
      this.docker.listContainers({ all: true, abortSignal }),
    );
    return containers.map(({ Id }) => Id);
  }

  async removeContainer(id: string): Promise<void> {
    await bounded('removing a container', REMOVE_DEADLINE_MS, async (abortSignal) => {
      try {
        await absent(this.docker.getContainer(id).remove({ force: true, v: true, abortSignal }));
      } catch (err) {
        // The engine is removing it by itself.
        if (!hasStatus(err, 409)) throw err;
      }
    });
  }
}

/** The engine writes an archive to its own disk before it sends the first byte, so there is no deadline for that. */
function abortable<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(new Error('the export was given up'));
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}

/** What the engine said, without the client's words around it. */
function engineWords(err: unknown): string {
  const { json } = err as { readonly json?: { readonly message?: unknown } };
  return typeof json?.message === 'string' ? json.message.trim() : errorText(err);
}

async function onlyFile(archive: Readable): Promise<Buffer> {
  const chunks: Buffer[] = [];
  const parser = new Parser({
    strict: true,
    onReadEntry: (entry) => {
      entry.on('data', (chunk: Buffer) => chunks.push(chunk));
    },
  });
  await pipeline(archive, parser as unknown as NodeJS.WritableStream);
  return Buffer.concat(chunks);
}

async function* idsOf(events: Readable): AsyncGenerator<string> {
  for await (const { Actor } of jsonLines(events)) {
    const id = (Actor as { readonly ID?: unknown } | undefined)?.ID;
    if (typeof id === 'string') yield id;
  }
}
