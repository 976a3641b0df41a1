import { readFileSync, realpathSync } from 'node:fs';
import { dirname, isAbsolute, join, relative, resolve } from 'node:path';
import { errorText } from '@lambda-fleet/common/errors';
import { Secret } from '@lambda-fleet/common/secret';
import { CliError, usageError } from './cli-error.js';
import type { Config } from './config.js';

export interface Server {
  readonly endpoint: URL;
  readonly apiKey: Secret | undefined;
  /** Where both came from, for messages. */
  readonly source: string;
}

export interface ServerFlags {
  readonly endpoint?: string;
  readonly apiKey?: string;
}

/** What `lambda up` leaves for the commands. `apiKeyFile` is relative to the file's own folder unless it is absolute. */
export interface ServerContext {
  readonly endpoint: string;
  readonly apiKeyFile: string;
}

const DEFAULT_ENDPOINT = 'http://localhost:8080';

/**
 * Flags, then the environment, then the nearest `.lambda/context.json` upwards from `cwd`,
 * then the user's own context, then the default endpoint.
 *
 * A context's key goes to that context's endpoint and to no other.
 */
export function findServer(flags: ServerFlags, config: Config, cwd: string): Server {
  const given = flags.endpoint ?? config.endpoint;
  const key = flags.apiKey === undefined ? config.apiKey : new Secret(flags.apiKey);
  const context = nearestContext(cwd) ?? readContext(config.userContextFile, false);
  const endpoint = parseEndpoint(
    given ?? context?.endpoint ?? DEFAULT_ENDPOINT,
    flags.endpoint !== undefined ? '--endpoint' : config.endpoint !== undefined ? 'LAMBDA_ENDPOINT' : context?.file,
  );
  const source =
    flags.endpoint !== undefined
      ? '--endpoint'
      : config.endpoint !== undefined
        ? 'LAMBDA_ENDPOINT'
        : (context?.file ?? 'the default');
  if (key !== undefined) return { endpoint, apiKey: checkKey(key), source };
  if (context === undefined || parseEndpoint(context.endpoint, context.file).href !== endpoint.href) {
    return { endpoint, apiKey: undefined, source };
  }
  return { endpoint, apiKey: readKey(context), source: context.file };
}

interface FoundContext extends ServerContext {
  readonly file: string;
  /**
   * The file may have come with a repository that somebody else wrote: it may name only a key beside
   * itself, never another file of this user to be sent to an endpoint of its choice.
   */
  readonly confined: boolean;
}

function nearestContext(cwd: string): FoundContext | undefined {
  for (let folder = resolve(cwd); ; folder = dirname(folder)) {
    const context = readContext(join(folder, '.lambda', 'context.json'), true);
    if (context !== undefined || folder === dirname(folder)) return context;
  }
}

function readContext(file: string, confined: boolean): FoundContext | undefined {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (err) {
    const code = (err as NodeJS.ErrnoException).code;
    // Another user's 0700 folder on the way up is no reason to fail: it is simply not ours to use.
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'EACCES') return undefined;
    throw new CliError(`${file} cannot be read: ${errorText(err)}.`, { cause: err });
  }
  let parsed: Partial<ServerContext> | null;
  try {
    parsed = JSON.parse(text) as Partial<ServerContext> | null;
  } catch (err) {
    throw new CliError(`${file} is not JSON: ${errorText(err)}.`, { next: 'Remove it; `lambda up` writes it again.' });
  }
  if (typeof parsed?.endpoint !== 'string' || typeof parsed.apiKeyFile !== 'string') {
    throw new CliError(`${file} has no "endpoint" and "apiKeyFile".`, {
      next: 'Remove it; `lambda up` writes it again.',
    });
  }
  const apiKeyFile = resolve(dirname(file), parsed.apiKeyFile);
  return { file, endpoint: parsed.endpoint, apiKeyFile, confined };
}

function readKey(context: FoundContext): Secret | undefined {
  try {
    const keyFile = realpathSync(context.apiKeyFile);
    const inside = relative(realpathSync(dirname(context.file)), keyFile);
    if (context.confined && (inside.startsWith('..') || isAbsolute(inside))) {
      throw new CliError(`${context.file} names a key file outside its own folder, ${keyFile}, which is refused.`, {
        next: 'Remove it, or give --endpoint and --api-key.',
      });
    }
    return checkKey(new Secret(readFileSync(keyFile, 'utf8').trim()));
  } catch (err) {
    // No key yet, or another user's: the request goes out without one and the server's 401 says the rest.
    if (['ENOENT', 'EACCES'].includes((err as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw err;
  }
}

/** A header can carry only this; it also keeps a file that is no key from being sent as one. */
function checkKey(key: Secret): Secret {
  if (!/^[\x21-\x7e]{1,512}$/.test(key.reveal())) {
    throw usageError(
      'The API key is not one word of printable ASCII characters.',
      'Check --api-key or LAMBDA_API_KEY.',
    );
  }
  return key;
}

function parseEndpoint(text: string, source = 'the default'): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !['http:', 'https:'].includes(url.protocol)) {
    throw usageError(
      `The endpoint "${text}" (from ${source}) is not an http or https URL.`,
      `For example: ${DEFAULT_ENDPOINT}`,
    );
  }
  return url;
}
