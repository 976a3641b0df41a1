import { open, readFile, stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { FUNCTION_NAME } from '@lambda-fleet/common/limits';
import type { ApiClient } from '../api/client.js';
import { usageError } from '../cli-error.js';
import type { ServerFlags } from '../find-server.js';
import type { Output } from '../output.js';
import type { AsyncSettings } from '../project/async-settings.js';
import { DOCKERFILE, packBuildContext } from '../project/build-context.js';
import { listCodeFiles } from '../project/code-files.js';
import type { ConcurrencySettings } from '../project/concurrency-settings.js';
import { guessEntry } from '../project/guess-runtime.js';
import { type Definition, type LambdaJson, readLambdaJson } from '../project/lambda-json.js';
import { checkArchiveSize, packZip } from '../project/pack.js';
import { type Archive, findFunction, uploadFunction } from '../project/upload-function.js';
import type { Session } from '../session.js';
import { bytesText, printable } from '../terminal-text.js';
import { changeAsyncSettings } from './async-settings.js';
import { changeConcurrency } from './concurrency-settings.js';
import { deployImage } from './deploy-image.js';

export interface DeployOptions extends ServerFlags {
  readonly name?: string;
  readonly runtime?: string;
  readonly handler?: string;
  readonly memory?: number;
  readonly timeout?: number;
  readonly public?: boolean;
  readonly env?: Readonly<Record<string, string>>;
}

/** Uploads a folder or an archive as a function and prints its URL. A folder with a Dockerfile is built first. */
export async function deploy(session: Session, path: string, options: DeployOptions): Promise<void> {
  const place = resolve(session.cwd, path);
  const found = await stat(place).catch((err: NodeJS.ErrnoException) => {
    if (err.code === 'ENOENT' || err.code === 'ENOTDIR')
      throw usageError(`There is no ${path}.`, 'lambda deploy <folder or archive>');
    throw err;
  });
  const type = found.isDirectory() ? 'folder' : await archiveType(place);
  const client = session.connect(options);
  const { async: settings, limits, ...definition } = await readDefinition(place, found.isDirectory(), options);
  const upload = { client, definition, place, output: session.output };
  const url = type === 'folder' ? await deployFolder(upload) : await deployArchive(upload, type, found.size);
  if (settings !== undefined) await applyAsyncSettings(client, definition.name, settings, session.output);
  if (limits !== undefined && Object.keys(limits).length > 0) {
    await applyLimits(client, definition.name, limits, session.output);
  }
  await session.output.data(`${url}\n`);
}

/** They belong to the function and not to its versions, so they are a request of their own, which may be refused by itself. */
async function applyAsyncSettings(
  client: ApiClient,
  name: string,
  settings: Partial<AsyncSettings>,
  output: Output,
): Promise<void> {
  try {
    await changeAsyncSettings(client, name, settings);
  } catch (err) {
    output.note(`${name} is deployed, but "async" of its lambda.json could not be applied:`);
    throw err;
  }
  output.note('Async invocations are tried as lambda.json says.');
}

/** Those of the function too. */
async function applyLimits(
  client: ApiClient,
  name: string,
  limits: Partial<ConcurrencySettings>,
  output: Output,
): Promise<void> {
  try {
    await changeConcurrency(client, name, limits);
  } catch (err) {
    output.note(`${name} is deployed, but "limits" of its lambda.json could not be applied:`);
    throw err;
  }
  output.note('It runs at once as often as lambda.json says.');
}

type ArchiveType = 'application/zip' | 'application/gzip';

type NamedDefinition = Definition & { readonly name: string };

/** Flags win over `lambda.json`; the name falls back to the folder's or archive's own. */
async function readDefinition(
  place: string,
  isFolder: boolean,
  options: DeployOptions,
): Promise<LambdaJson & { readonly name: string }> {
  const file = isFolder ? await readLambdaJson(join(place, 'lambda.json')) : undefined;
  const name = options.name ?? file?.name ?? basename(place).replace(/\.(zip|tar\.gz|tgz)$/i, '');
  if (!FUNCTION_NAME.test(name)) {
    throw usageError(
      `"${name}" cannot be a function's name: it has 1 to 64 letters, digits, "-" or "_".`,
      'Give one with --name or as "name" in lambda.json.',
    );
  }
  const flags: Definition = {
    runtime: options.runtime,
    handler: options.handler,
    memoryMb: options.memory,
    timeoutMs: options.timeout,
    httpAuth: options.public === true ? 'public' : undefined,
    environment: options.env === undefined ? undefined : { ...file?.environment, ...options.env },
  };
  const given = Object.entries(flags).filter(([, value]) => value !== undefined);
  return { ...file, ...(Object.fromEntries(given) as Definition), name };
}

interface Upload {
  readonly client: ApiClient;
  readonly definition: NamedDefinition;
  readonly place: string;
  readonly output: Output;
}

async function deployFolder(upload: Upload): Promise<string> {
  const { client, definition, place, output } = upload;
  if (await isImage(place, definition)) return await deployImageFolder(upload);
  const existing = await findFunction(client, definition.name);
  const packed = output.step('[1/3] Packing');
  const { files, warnings } = await listCodeFiles(place);
  // Only a new function needs a guess: an existing one keeps its exact runtime and handler.
  const kept = existing?.runtime === 'image' ? undefined : existing;
  const known = { runtime: definition.runtime ?? kept?.runtime, handler: definition.handler ?? kept?.handler };
  const entry = guessEntry(new Set(files.map((file) => file.path)), known, place);
  const complete = kept === undefined ? { ...definition, ...entry } : definition;
  const archive = await packZip(files);
  packed(`${files.length} ${files.length === 1 ? 'file' : 'files'}, ${bytesText(archive.length)}`);
  for (const warning of warnings) output.warn(warning);
  return await uploadAndCheck(client, complete, { bytes: archive, type: 'application/zip' }, output);
}

/** A folder with a Dockerfile, unless another runtime is named. */
async function isImage(place: string, { runtime }: Definition): Promise<boolean> {
  const hasDockerfile = await stat(join(place, DOCKERFILE)).then(
    (found) => found.isFile(),
    () => false,
  );
  if (runtime === 'image' && !hasDockerfile) {
    throw usageError(`${place} has no ${DOCKERFILE}, and the runtime is "image".`, 'Add one, or name another runtime.');
  }
  return hasDockerfile && (runtime === undefined || runtime === 'image');
}

async function deployImageFolder({ client, definition, place, output }: Upload): Promise<string> {
  const packed = output.step('[1/4] Packing');
  const { files, archive, warnings } = await packBuildContext(place);
  packed(`${files} ${files === 1 ? 'file' : 'files'}, ${bytesText(archive.length)}`);
  for (const warning of warnings) output.warn(warning);
  const context = { bytes: archive, type: 'application/gzip' };
  return await deployImage({ client, definition, context, output });
}

async function deployArchive(
  { client, definition, place, output }: Upload,
  type: ArchiveType,
  bytes: number,
): Promise<string> {
  checkArchiveSize(bytes);
  const isContext = definition.runtime === 'image';
  const packed = output.step(isContext ? '[1/4] Packing' : '[1/3] Packing');
  const archive = await readFile(place);
  packed(`${basename(place)} as it is, ${bytesText(archive.length)}`);
  if (isContext) return await deployImage({ client, definition, context: { bytes: archive, type }, output });
  return await uploadAndCheck(client, definition, { bytes: archive, type }, output);
}

/** Steps 2 and 3. Returns the function's URL. */
async function uploadAndCheck(
  client: ApiClient,
  definition: NamedDefinition,
  archive: Archive,
  output: Output,
): Promise<string> {
  let finish = output.step('[2/3] Uploading');
  const uploaded = await uploadFunction(client, definition, archive, () => {
    finish('done');
    finish = output.step('[3/3] Checking');
  });
  finish(`version ${uploaded.version}, ${uploaded.runtime}, ${uploaded.handler}`);
  for (const warning of uploaded.warnings ?? []) output.warn(printable(String(warning)));
  return printable(uploaded.url);
}

/** By the first bytes: a name can lie, and the server would only say that it cannot read it. */
async function archiveType(place: string): Promise<ArchiveType> {
  const file = await open(place, 'r');
  try {
    const { buffer } = await file.read(Buffer.alloc(4), 0, 4, 0);
    if (buffer.readUInt32BE(0) === 0x504b0304) return 'application/zip';
    if (buffer.readUInt16BE(0) === 0x1f8b) return 'application/gzip';
  } finally {
    await file.close();
  }
  throw usageError(`${place} is neither a folder nor a .zip or .tar.gz archive.`, 'lambda deploy <folder or archive>');
}
