import { chmod, mkdir, readdir, rename, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { Readable } from 'node:stream';
import type Docker from 'dockerode';
import { create } from 'tar';
import { buildContainer } from './build-container.js';
import { engineErrorText } from './engine.js';
import type { Architecture } from './image-set.js';

export interface StaticInitRequest {
  readonly docker: Docker;
  readonly architecture: Architecture;
  /** Has apt-get. */
  readonly baseId: string;
  readonly onProgress: (line: string) => void;
}

/** What `runtimes/provided/build.mjs` has; it runs before anything is compiled, and so is no TypeScript. */
interface InitBuild {
  readonly INIT_FLAGS: readonly string[];
  readonly INIT_SOURCES: string;
  initFile(architecture: string): string;
  initIsFresh(architecture: string): boolean;
  /** Why it cannot be compiled on this machine, or undefined when it is there. */
  buildInit(): string | undefined;
}

const COMPILE_DEADLINE_MS = 300_000;
const SOURCES_INSIDE = 'usr/src/init';
const MADE_INSIDE = '/usr/src/made';

/**
 * Makes sure that the static init for the engine's architecture is where the images take it from: compiled on this machine, else in a
 * container that installs a compiler. Rejects with what is missing.
 */
export async function ensureStaticInit(request: StaticInitRequest): Promise<void> {
  const build = (await import(new URL('../../provided/build.mjs', import.meta.url).href)) as InitBuild;
  const { architecture } = request;
  const here =
    architecture === process.arch
      ? build.buildInit()
      : `this machine is not of the engine's architecture (${architecture})`;
  if (here === undefined || build.initIsFresh(architecture)) return;
  request.onProgress('compiling the static init in a container');
  try {
    await compileInContainer(request, build);
  } catch (error) {
    throw new Error(
      [
        'The static init, which the provided runtime and container images start with, cannot be compiled:',
        `  on this machine: ${here}`,
        `  in a container: ${engineErrorText(error)}`,
        'Install musl-tools (apt-get install musl-tools), or give the containers of the engine a network with a Debian mirror.',
      ].join('\n'),
    );
  }
}

async function compileInContainer(
  { docker, architecture, baseId }: StaticInitRequest,
  build: InitBuild,
): Promise<void> {
  const script = [
    'set -e',
    'export DEBIAN_FRONTEND=noninteractive',
    'apt-get update -q',
    'apt-get install -q -y --no-install-recommends musl-tools',
    `musl-gcc ${build.INIT_FLAGS.join(' ')} -o ${MADE_INSIDE} /${SOURCES_INSIDE}/*.c`,
  ].join('\n');
  const made = await buildContainer(
    docker,
    { Image: baseId, User: '0', Cmd: ['/bin/sh', '-c', script] },
    async (container) => {
      await container.unpack(await sourcesArchive(build.INIT_SOURCES));
      await container.runToSuccess(COMPILE_DEADLINE_MS);
      return container.read(MADE_INSIDE);
    },
  );
  const target = build.initFile(architecture);
  await mkdir(dirname(target), { recursive: true });
  // A rename, so that a build in another process finds either no file or a whole one.
  const staging = `${target}.${process.pid}`;
  await writeFile(staging, made);
  await chmod(staging, 0o755);
  await rename(staging, target);
}

async function sourcesArchive(folder: string): Promise<Readable> {
  const names = (await readdir(folder)).sort();
  const archive = create({ cwd: folder, portable: true, prefix: SOURCES_INSIDE, mtime: new Date(0) }, names);
  return Readable.from(archive);
}
