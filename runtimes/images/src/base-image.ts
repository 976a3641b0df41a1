import { createHash } from 'node:crypto';
import { withDeadline } from '@lambda-fleet/common/deadline';
import type Docker from 'dockerode';
import { buildContainer } from './build-container.js';
import { debootstrapImpossible, importDebootstrapped } from './debootstrap.js';
import { engineErrorText, followProgress, inspectImage } from './engine.js';
import type { Architecture } from './image-set.js';
import { TRIM_ROOTFS } from './trim-rootfs.js';

const SUITE = 'bookworm';
const PACKAGES = ['python3', 'ca-certificates'];
const UPSTREAM = `debian:${SUITE}-slim`;
const BASE = { repo: 'lambda-fleet/base', tag: SUITE } as const;

/** A registry that does not begin to answer in this time is taken for absent. */
const REGISTRY_DEADLINE_MS = 20_000;
const PULL_SILENCE_MAX_MS = 60_000;
const INSTALL_DEADLINE_MS = 300_000;

const INSTALL = `
set -e
command -v python3 > /dev/null || {
  export DEBIAN_FRONTEND=noninteractive
  apt-get update
  apt-get install -y --no-install-recommends ${PACKAGES.join(' ')}
}
set -- /
${TRIM_ROOTFS}`;

export interface BaseImageRequest {
  readonly docker: Docker;
  readonly architecture: Architecture;
  readonly cacheDir: string;
  readonly onProgress: (line: string) => void;
}

/**
 * Makes sure that the base of the runtime images exists and resolves with its id: Debian with Python, from
 * Debian's own image where the engine has it or can pull it, else made on this machine by debootstrap.
 */
export async function ensureBaseImage(request: BaseImageRequest): Promise<string> {
  const name = `${BASE.repo}:${BASE.tag}`;
  const inputs = baseInputs(request.architecture);
  const existing = await inspectImage(request.docker, name);
  if (existing?.labels['lambda.inputs'] === inputs) return existing.id;

  const pullFailure = await tryUpstream(request, inputs);
  if (pullFailure !== undefined) {
    const impossible = await debootstrapImpossible(request.architecture);
    if (impossible !== undefined) throw new Error(noBase(pullFailure, impossible));
    request.onProgress(`${pullFailure}; making the base image with debootstrap instead (about a minute)`);
    await importDebootstrapped({
      ...request,
      suite: SUITE,
      packages: PACKAGES,
      image: BASE,
      labels: { 'lambda.inputs': inputs },
    });
  }
  const made = await inspectImage(request.docker, name);
  if (made === undefined) throw new Error(`the Docker engine does not list ${name} although it was just made`);
  return made.id;
}

function baseInputs(architecture: Architecture): string {
  const recipe = [architecture, SUITE, PACKAGES, UPSTREAM, INSTALL];
  return createHash('sha256').update(JSON.stringify(recipe)).digest('hex');
}

/** Makes the base from Debian's image. Resolves with why that is not possible, or undefined when it is done. */
async function tryUpstream(request: BaseImageRequest, inputs: string): Promise<string | undefined> {
  try {
    if ((await inspectImage(request.docker, UPSTREAM)) === undefined) {
      request.onProgress(`pulling ${UPSTREAM}`);
      const progress = await withDeadline(`pulling ${UPSTREAM}`, REGISTRY_DEADLINE_MS, request.docker.pull(UPSTREAM));
      await followProgress(`pulling ${UPSTREAM}`, progress, PULL_SILENCE_MAX_MS);
    }
  } catch (error) {
    return `the Docker engine cannot pull ${UPSTREAM} (${engineErrorText(error)})`;
  }
  try {
    request.onProgress(`installing ${PACKAGES.join(' and ')} into ${UPSTREAM}`);
    await buildContainer(
      request.docker,
      { Image: UPSTREAM, User: '0', Cmd: ['/bin/sh', '-c', INSTALL], Labels: { 'lambda.inputs': inputs } },
      async (container) => {
        await container.runToSuccess(INSTALL_DEADLINE_MS);
        await container.commit(BASE);
      },
    );
    return undefined;
  } catch (error) {
    return `${UPSTREAM} cannot be completed in a container (${engineErrorText(error)})`;
  }
}

function noBase(pullFailure: string, debootstrapFailure: string): string {
  return [
    'There is no base for the runtime images, and it cannot be made here:',
    `  ${pullFailure}`,
    `  ${debootstrapFailure}`,
    `Give the engine access to a registry, or load the image into it (docker load) under the name ${UPSTREAM},`,
    'or, on Debian or Ubuntu, install debootstrap (apt-get install debootstrap) and run this again as root.',
  ].join('\n');
}
