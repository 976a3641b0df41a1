import { homedir } from 'node:os';
import { join } from 'node:path';
import { Secret } from '@lambda-fleet/common/secret';
import { DEATHS_MAX } from './up/restart-policy.js';

/** Everything that `lambda` takes from its environment. This file alone reads `process.env`. */
export interface Config {
  /** LAMBDA_ENDPOINT: the server's URL. */
  readonly endpoint: string | undefined;
  /** LAMBDA_API_KEY */
  readonly apiKey: Secret | undefined;
  /** Written by `lambda up`, read when no nearer context is found. */
  readonly userContextFile: string;
  /** NO_COLOR is set, or the terminal is a dumb one. */
  readonly noColor: boolean;
  /** DATABASE_URL: a server to use in place of the embedded PostgreSQL. */
  readonly databaseUrl: Secret | undefined;
  /** XDG_RUNTIME_DIR: where a user's sockets belong. */
  readonly runtimeDir: string | undefined;
  /** DOCKER_HOST */
  readonly dockerHost: string | undefined;
  /** LAMBDA_MEMORY_MB: memory that all nodes of `lambda up` share. */
  readonly memoryMb: string | undefined;
  /** LAMBDA_SLOTS: sandboxes that all nodes of `lambda up` share. */
  readonly slots: string | undefined;
  /** LAMBDA_UP_DEATHS_MAX: deaths of one process within a minute that end `lambda up`. */
  readonly deathsMax: number;
  /** LAMBDA_LOG_LEVEL of the processes that `lambda up` starts. */
  readonly logLevel: string;
  /** What those processes inherit: the whole environment without its secrets and without what is one process's own. */
  readonly inherited: Readonly<Record<string, string>>;
}

const NOT_INHERITED = new Set(['DATABASE_URL', 'LAMBDA_API_KEY', 'LAMBDA_ENDPOINT', 'NODE_CHANNEL_FD']);

export function readConfig(env: NodeJS.ProcessEnv = process.env): Config {
  // An empty variable counts as absent: `LAMBDA_ENDPOINT= lambda ls` is how a shell says "not this one".
  const text = (name: string) => env[name] || undefined;
  const secret = (name: string) => {
    const value = text(name);
    return value === undefined ? undefined : new Secret(value);
  };
  return {
    endpoint: text('LAMBDA_ENDPOINT'),
    apiKey: secret('LAMBDA_API_KEY'),
    userContextFile: join(text('XDG_CONFIG_HOME') ?? join(homedir(), '.config'), 'lambda', 'context.json'),
    noColor: text('NO_COLOR') !== undefined || text('TERM') === 'dumb',
    databaseUrl: secret('DATABASE_URL'),
    runtimeDir: text('XDG_RUNTIME_DIR'),
    dockerHost: text('DOCKER_HOST'),
    memoryMb: text('LAMBDA_MEMORY_MB'),
    slots: text('LAMBDA_SLOTS'),
    deathsMax: Math.max(1, Number(text('LAMBDA_UP_DEATHS_MAX') ?? DEATHS_MAX) || DEATHS_MAX),
    logLevel: text('LAMBDA_LOG_LEVEL') ?? 'info',
    inherited: Object.fromEntries(
      Object.entries(env).filter(
        (entry): entry is [string, string] => entry[1] !== undefined && !NOT_INHERITED.has(entry[0]),
      ),
    ),
  };
}
