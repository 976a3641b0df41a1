import { createHash } from 'node:crypto';
import { chmod, copyFile, mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { Readable } from 'node:stream';
import { withDeadline } from '@lambda-fleet/common/deadline';
import { SANDBOX_GROUP, SANDBOX_USER_FIRST, SANDBOX_USERS } from '@lambda-fleet/common/sandbox-users';
import type Docker from 'dockerode';
import { create } from 'tar';
import { buildContainer } from './build-container.js';
import { hasStatus, inspectImage } from './engine.js';
import { type Architecture, imageName, programPath, type RuntimeImage } from './image-set.js';
import { nodeBinary } from './node-binary.js';
import { programFiles } from './program-files.js';

const CALL_DEADLINE_MS = 30_000;

/** Directories that a sandbox mounts over. They must exist in the image, because its root is read-only. */
const MOUNT_POINTS = ['var/task', 'var/cache/lambda', 'run/lambda'];

const UNPRIVILEGED = '65534:65534';

/** Libraries ask who they run as, and some take no answer for an error: every user that a sandbox may have is in the image. */
const ADD_USERS = `
user=${SANDBOX_USER_FIRST}
while [ $user -lt ${SANDBOX_USER_FIRST + SANDBOX_USERS} ]; do
  echo "sandbox$user:x:$user:${SANDBOX_GROUP}::/tmp:/usr/sbin/nologin"
  user=$((user + 1))
done >> /etc/passwd
exec "$@"`;
const NOTHING_ELSE = ['/bin/true'];
const PREPARE_DEADLINE_MS = 120_000;

/** What a container of any runtime image starts from; the node agent sets the rest. */
const CONFIGURATION = {
  WorkingDir: '/var/task',
  Env: ['PATH=/usr/local/bin:/usr/bin:/bin', 'HOME=/tmp', 'LANG=C.UTF-8'],
};

export interface RuntimeImageRequest {
  readonly docker: Docker;
  readonly image: RuntimeImage;
  readonly baseId: string;
  readonly architecture: Architecture;
  readonly cacheDir: string;
  readonly onProgress: (line: string) => void;
}

export interface RuntimeImageResult {
  readonly id: string;
  /** False when the image was fresh already. */
  readonly built: boolean;
}

/** Makes sure that the runtime's image exists, was made of the present inputs, and carries all its names. */
export async function ensureRuntimeImage(request: RuntimeImageRequest): Promise<RuntimeImageResult> {
  const { docker, image } = request;
  const { repo, tag } = imageName(image.runtime);
  const inputs = await runtimeInputs(image, request.baseId, request.architecture);
  const previous = await inspectImage(docker, `${repo}:${tag}`);
  if (previous?.labels['lambda.inputs'] === inputs) {
    await nameAliases(docker, image, previous.id);
    return { id: previous.id, built: false };
  }

  const id = await build(request, inputs);
  await nameAliases(docker, image, id);
  if (previous !== undefined) await removeImage(docker, previous.id);
  return { id, built: true };
}

/** Fingerprint of everything that goes into the image. */
export async function runtimeInputs(image: RuntimeImage, baseId: string, architecture: Architecture): Promise<string> {
  const hash = createHash('sha256');
  hash.update(
    JSON.stringify([baseId, architecture, image.node ?? null, image.prepare ?? null, image.entry, image.programInside]),
  );
  hash.update(JSON.stringify([CONFIGURATION, UNPRIVILEGED, MOUNT_POINTS, ADD_USERS]));
  const program = programPath(image, architecture);
  for (const path of await programFiles(program)) {
    const contents = await readFile(path);
    hash.update(JSON.stringify([relative(program, path), contents.length]));
    hash.update(contents);
  }
  return hash.digest('hex');
}

async function build(request: RuntimeImageRequest, inputs: string): Promise<string> {
  const { docker, image } = request;
  await mkdir(request.cacheDir, { recursive: true });
  const staging = await mkdtemp(join(request.cacheDir, 'image-'));
  try {
    if (image.node !== undefined) {
      const binary = await nodeBinary(image.node, request.architecture, request.cacheDir, request.onProgress);
      await stage(binary, join(staging, 'var/runtime/bin/node'), 0o755);
    }
    const program = programPath(image, request.architecture);
    // What is not started by an interpreter is started itself.
    const mode = image.entry[0] === image.programInside ? 0o755 : 0o644;
    for (const path of await programFiles(program)) {
      await stage(path, join(staging, image.programInside, relative(program, path)), mode);
    }
    for (const path of MOUNT_POINTS) await mkdir(join(staging, path), { recursive: true });

    const command = image.entry.filter((argument) => !argument.includes('{'));
    return await buildContainer(
      docker,
      {
        ...CONFIGURATION,
        Image: request.baseId,
        User: '0',
        Cmd: ['/bin/sh', '-ec', ADD_USERS, 'prepare', ...(image.prepare ?? NOTHING_ELSE)],
        NetworkDisabled: true,
        Labels: {
          'lambda.inputs': inputs,
          'lambda.runtime': image.runtime,
          'lambda.entry': JSON.stringify(image.entry),
        },
      },
      async (container) => {
        // Portable: no owner, which is root when unpacked, and no group or world write from this user's umask.
        await container.unpack(
          Readable.from(create({ cwd: staging, portable: true, mtime: new Date(0) }, ['run', 'var'])),
        );
        await container.runToSuccess(PREPARE_DEADLINE_MS);
        return container.commit(imageName(image.runtime), { User: UNPRIVILEGED, Cmd: command });
      },
    );
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

async function stage(from: string, to: string, mode: number): Promise<void> {
  await mkdir(dirname(to), { recursive: true });
  await copyFile(from, to);
  await chmod(to, mode);
}

async function nameAliases(docker: Docker, image: RuntimeImage, id: string): Promise<void> {
  for (const alias of image.aliases) {
    await withDeadline('naming an image', CALL_DEADLINE_MS, docker.getImage(id).tag(imageName(alias)));
  }
}

async function removeImage(docker: Docker, id: string): Promise<void> {
  try {
    await withDeadline('removing an image', CALL_DEADLINE_MS, docker.getImage(id).remove());
  } catch (error) {
    // A sandbox still runs from it, or someone else removed it or gave it a name: it is theirs now.
    if (!hasStatus(error, 404) && !hasStatus(error, 409)) throw error;
  }
}
