import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { installDebianPackages } from './debian-packages.mjs';
import { engineVersion } from './docker-client.mjs';
import { startPrivateEngine } from './private-engine.mjs';

/**
 * @typedef {object} Engine
 * @property {string} host value for DOCKER_HOST
 * @property {string} description for the report
 * @property {boolean} isPrivate nobody else uses it
 * @property {() => Promise<void>} stop
 */

/**
 * The engine that tests use: the one that answers already, else a private one that lives as long as the run.
 *
 * @returns {Promise<Engine>}
 */
export async function findOrStartEngine() {
  const running = await findRunningEngine();
  if (running !== undefined) return running;
  if (!mayStartEngine()) {
    throw new Error(
      [
        'No Docker engine answers, at DOCKER_HOST or at the usual sockets, and only root on Linux can start one.',
        'Start Docker (Docker Desktop, or `sudo systemctl start docker`; your user must be allowed to use it:',
        '`sudo usermod -aG docker $USER`, then log in again), or run the tests as root.',
      ].join('\n'),
    );
  }
  await installDebianPackages(['dockerd', 'runsc', 'debootstrap', 'nft', 'ip']);
  return await startPrivateEngine();
}

/** Whether this process has the right to start an engine, not whether one is installed. */
export function mayStartEngine() {
  return process.platform === 'linux' && process.getuid?.() === 0;
}

/**
 * The engine that answers already, or undefined.
 *
 * @returns {Promise<Engine | undefined>}
 */
export async function findRunningEngine() {
  const sockets = ['/var/run/docker.sock', join(homedir(), '.docker/run/docker.sock')];
  const hosts = [
    process.env.DOCKER_HOST,
    ...sockets.filter((path) => existsSync(path)).map((path) => `unix://${path}`),
  ];
  for (const host of hosts) {
    if (!host) continue;
    const version = await engineVersion(host);
    if (version === undefined) continue;
    return { host, description: `${version} at ${host}`, isPrivate: false, stop: async () => {} };
  }
  return undefined;
}
