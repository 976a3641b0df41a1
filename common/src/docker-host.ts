import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

/** How to reach a Docker engine without TLS: what `node:http` needs. */
export type DockerAddress = { readonly socketPath: string } | { readonly host: string; readonly port: number };

/**
 * Where an engine listens when `DOCKER_HOST` is not set: Docker Desktop's socket in the user's folder where there is one (it makes
 * the usual socket only when it is asked to), else the usual one.
 */
export function defaultDockerHost(platform: NodeJS.Platform = process.platform, home: string = homedir()): string {
  if (platform === 'win32') return 'npipe:////./pipe/docker_engine';
  const own = join(home, '.docker', 'run', 'docker.sock');
  return `unix://${existsSync(own) ? own : '/var/run/docker.sock'}`;
}

/** Reads a value of `DOCKER_HOST`. Undefined for what only the docker command understands, such as ssh://. */
export function parseDockerHost(text: string): DockerAddress | undefined {
  const [, path] = /^(?:unix|npipe):\/\/(.+)$/.exec(text) ?? [];
  if (path !== undefined) return { socketPath: path };
  if (!/^(tcp|http):\/\//.test(text) || !URL.canParse(text)) return undefined;
  // As http, because URL reads host and port of special schemes only.
  const url = new URL(text.replace(/^tcp:/, 'http:'));
  return { host: url.hostname, port: Number(url.port || 2375) };
}
