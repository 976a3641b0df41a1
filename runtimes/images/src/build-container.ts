import { randomBytes } from 'node:crypto';
import { pipeline } from 'node:stream/promises';
import { withDeadline } from '@lambda-fleet/common/deadline';
import type Docker from 'dockerode';
import { Parser } from 'tar';
import { hasStatus } from './engine.js';

const NAME_PREFIX = 'lambda-image-build-';
const CALL_DEADLINE_MS = 30_000;
/** Copying and committing move a hundred megabytes through the engine's disk. */
const COPY_DEADLINE_MS = 180_000;
const LEFTOVER_AGE_MAX_S = 3_600;

export interface ImageName {
  readonly repo: string;
  readonly tag: string;
}

/** The part of the engine's image configuration that a build sets. */
export interface ImageConfiguration {
  readonly User: string;
  readonly Cmd: readonly string[];
}

/** A container that exists only to become an image. */
export interface BuildContainer {
  /** Starts the container's command and resolves when it ended with status 0. */
  runToSuccess(deadlineMs: number): Promise<void>;
  /** Unpacks a tar stream over the container's root. */
  unpack(tarStream: NodeJS.ReadableStream): Promise<void>;
  /** The contents of one file. */
  read(path: string): Promise<Buffer>;
  /** Makes an image of it. The configuration goes before the container's own. Resolves with the image's id. */
  commit(image: ImageName, configuration?: ImageConfiguration): Promise<string>;
}

/**
 * Images are built by create, copy, commit: calls that every engine has had since 1.12, on any storage and without
 * BuildKit. The container is removed whatever happens.
 */
export async function buildContainer<T>(
  docker: Docker,
  options: Docker.ContainerCreateOptions,
  work: (container: BuildContainer) => Promise<T>,
): Promise<T> {
  const name = `${NAME_PREFIX}${randomBytes(6).toString('hex')}`;
  const container = await withDeadline(
    'creating a build container',
    CALL_DEADLINE_MS,
    docker.createContainer({ ...options, name }),
  );
  try {
    return await work({
      runToSuccess: (deadlineMs) => runToSuccess(container, deadlineMs),
      unpack: async (tarStream) => {
        await withDeadline('copying into an image', COPY_DEADLINE_MS, container.putArchive(tarStream, { path: '/' }));
      },
      read: (path) => readFileOf(container, path),
      commit: (image, configuration) => commit(container, image, configuration),
    });
  } finally {
    await withDeadline('removing a build container', CALL_DEADLINE_MS, container.remove({ force: true, v: true }));
  }
}

async function runToSuccess(container: Docker.Container, deadlineMs: number): Promise<void> {
  await withDeadline('starting a build container', CALL_DEADLINE_MS, container.start());
  const ended: unknown = await withDeadline('a build container', deadlineMs, container.wait());
  const status = typeof ended === 'object' && ended !== null && 'StatusCode' in ended ? ended.StatusCode : undefined;
  if (status === 0) return;
  const logs = await withDeadline(
    'reading the output of a build container',
    CALL_DEADLINE_MS,
    container.logs({ stdout: true, stderr: true, tail: 5, follow: false }),
  );
  // Each line of the engine's log stream begins with an 8-byte header, of which the text filter leaves nothing.
  const output = logs.toString('utf8').replace(/[^\x20-\x7e\n]/g, '');
  throw new Error(`its command ended with status ${String(status)}: ${output.trim()}`);
}

async function readFileOf(container: Docker.Container, path: string): Promise<Buffer> {
  const archive = await withDeadline('copying out of an image', COPY_DEADLINE_MS, container.getArchive({ path }));
  const chunks: Buffer[] = [];
  const parser = new Parser({
    onReadEntry: (entry) => {
      entry.on('data', (chunk) => chunks.push(Buffer.from(chunk)));
    },
  });
  // Parser is a Writable in all but its declared type.
  await pipeline(archive, parser as unknown as NodeJS.WritableStream);
  return Buffer.concat(chunks);
}

async function commit(
  container: Docker.Container,
  image: ImageName,
  configuration: ImageConfiguration | undefined,
): Promise<string> {
  const made: unknown = await withDeadline(
    'committing an image',
    COPY_DEADLINE_MS,
    // The client sends one object as query and as body unless it gets both by these names.
    container.commit({ _query: { container: container.id, ...image }, _body: configuration ?? {} }),
  );
  if (typeof made === 'object' && made !== null && 'Id' in made) return String(made.Id);
  throw new Error(`the Docker engine did not name the image it made: ${JSON.stringify(made)}`);
}

/** Removes the containers of builds that were killed. Younger ones may belong to a build that runs now. */
export async function removeLeftoverBuilds(docker: Docker): Promise<void> {
  const containers = await withDeadline(
    'listing containers',
    CALL_DEADLINE_MS,
    docker.listContainers({ all: true, filters: { name: [NAME_PREFIX] } }),
  );
  for (const { Id, Created } of containers) {
    if (Date.now() / 1_000 - Created < LEFTOVER_AGE_MAX_S) continue;
    try {
      await withDeadline(
        'removing a build container',
        CALL_DEADLINE_MS,
        docker.getContainer(Id).remove({ force: true }),
      );
    } catch (error) {
      // Another builder was faster.
      if (!hasStatus(error, 404) && !hasStatus(error, 409)) throw error;
    }
  }
}
