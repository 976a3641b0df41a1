import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { defaultDockerHost } from '@lambda-fleet/common/docker-host';
import { errorText } from '@lambda-fleet/common/errors';
import type { Logger } from '@lambda-fleet/common/logger';
import type { DoctorConfig } from '../config.js';
import { EngineClient, type EngineDescription } from '../drivers/docker/engine-client.js';
import { checkCgroups } from './cgroup-checks.js';
import { type Check, check, failed } from './check.js';
import { checkDataDir, checkDisk, checkSocketDir } from './directory-checks.js';
import { checkEngine, checkImages, checkLimits, checkRunsc, usesHostSockets } from './engine-checks.js';
import { checkKernel, checkMemory, checkNode, checkUser } from './machine-checks.js';
import { checkSandboxes } from './sandbox-checks.js';

export interface Examination {
  readonly config: DoctorConfig;
  readonly log: Logger;
  /** Ends it, with nothing left behind. */
  readonly signal: AbortSignal;
}

/** What the doctor's sandboxes carry: the next one for this directory removes what one that was killed has left. */
export function doctorsOwner(dataDir: string): string {
  return createHash('sha256').update(`doctor\0${dataDir}`).digest('hex').slice(0, 16);
}

/**
 * Looks at everything that an agent with the Docker driver needs of a machine, one thing after the other. What it makes to
 * try it (a file, sandboxes, a network) it removes again, and it touches nothing of agents that run.
 */
export async function* examine({ config, log, signal }: Examination): AsyncGenerator<Check> {
  const uid = process.getuid?.();
  const owner = doctorsOwner(config.dataDir);
  yield await check('node', () => checkNode(process.versions.node));
  yield await check('kernel', () => checkKernel(process.platform, release()));
  yield await check('user', () => checkUser(uid));
  yield await check('memory', () => checkMemory());
  yield await check('data directory', () => checkDataDir(config.dataDir));
  yield await check('disk', () => checkDisk(config.dataDir));
  yield await check('sockets', () =>
    checkSocketDir({ owner, uid: uid ?? 0, runtimeDir: config.runtimeDir, tmpDir: tmpdir() }),
  );
  if (process.platform === 'linux') yield await check('cgroups', () => checkCgroups(release()));

  const { dockerHost = defaultDockerHost() } = config;
  const engine = await EngineClient.connect(dockerHost);
  const startedAt = performance.now();
  let description: EngineDescription;
  try {
    description = await engine.describe();
  } catch (err) {
    const advice = 'start Docker, or name its socket in DOCKER_HOST; your user must be allowed to use it';
    yield await check('engine', () => failed(`no Docker engine answers at ${dockerHost}: ${errorText(err)}`, advice));
    return;
  }
  const answeredMs = performance.now() - startedAt;
  yield await check('engine', () => checkEngine(dockerHost, description, answeredMs));
  yield await check('limits', () => checkLimits(description));
  const images = await check('images', () => checkImages(engine));
  yield images;
  yield await check('runsc', () => checkRunsc(description, usesHostSockets(description, config.channelTransport)));
  if (images.status === 'failed' || signal.aborted) return;

  // Beside the agent's own directories, on the disk that the engine can mount from.
  const place = await mkdtemp(join('/var/tmp', 'lambda-doctor-'));
  try {
    yield* checkSandboxes({ ...config, dockerHost, owner, place, log, signal });
  } finally {
    await rm(place, { recursive: true, force: true });
  }
}
