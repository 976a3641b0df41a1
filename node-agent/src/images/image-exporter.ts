import { createHash } from 'node:crypto';
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { IMAGE_LAYERS_MAX } from '@lambda-fleet/common/limits';
import type { BuiltImage, ImageLayer } from '@lambda-fleet/proto';
import type { ImageInspectInfo } from 'dockerode';
import { BuildFailed } from './builder-messages.js';
import type { ImageEngine } from './image-engine.js';
import { visitSavedLayers } from './saved-layers.js';

/** The artifact store, as far as a build may use it. */
export interface StoredLayers {
  /** Those of the layers that are stored, with their sizes. */
  stored(buildId: string, sha256: readonly string[]): Promise<readonly ImageLayer[]>;
  /** Stores the layer that stands in a file. */
  send(buildId: string, layer: ImageLayer, file: string, signal: AbortSignal): Promise<void>;
}

export interface ExportRequest {
  readonly buildId: string;
  readonly imageId: string;
  /** Of all layers together. */
  readonly bytesMax: number;
  /** For one layer at a time; removed by the caller. */
  readonly directory: string;
  readonly signal: AbortSignal;
  /** What happens, for the person who deploys. */
  readonly say: (text: string) => void;
}

const ARCHITECTURES: Readonly<Record<string, string>> = { amd64: 'x64', arm64: 'arm64' };
const DIFF_ID = /^sha256:([0-9a-f]{64})$/;
const GZIP = 0x1f8b;
const MB = 1024 * 1024;

/**
 * Sends the layers of an image that are not stored yet, and describes it. A layer goes through one file on disk, because its
 * digest is known when all of it was read.
 *
 * @throws BuildFailed when the image cannot be a function; Error when the engine or the sending fails
 */
export async function exportImage(
  engine: ImageEngine,
  layers: StoredLayers,
  request: ExportRequest,
): Promise<BuiltImage> {
  const info = await engine.inspect(request.imageId);
  if (info === undefined) throw new Error('the engine has lost the image that it built');
  const digests = digestsOf(info);
  const tooLarge = (bytes: number) =>
    new BuildFailed(
      `the image has ${Math.ceil(bytes / MB)} MB and may have ${Math.floor(request.bytesMax / MB)} MB; build from a smaller base, in stages, or leave files out`,
    );
  if (info.Size > request.bytesMax) throw tooLarge(info.Size);
  const sizes = new Map<string, number>();
  for (const { sha256, bytes } of await layers.stored(request.buildId, digests)) sizes.set(sha256, bytes);
  const missing = new Set(digests.filter((digest) => !sizes.has(digest)));
  const known = new Set(digests).size - missing.size;
  request.say(`Image built: ${new Set(digests).size} layers, ${known} of them stored already`);
  if (missing.size > 0) await sendMissing(engine, layers, request, missing, sizes);
  const bytes = digests.reduce((sum, digest) => sum + (sizes.get(digest) ?? 0), 0);
  if (bytes > request.bytesMax) throw tooLarge(bytes);
  return describe(
    info,
    digests.map((sha256) => ({ sha256, bytes: sizes.get(sha256) ?? 0 })),
  );
}

function digestsOf({ RootFS, Os }: ImageInspectInfo): readonly string[] {
  if (Os !== 'linux') throw new BuildFailed(`it is an image for ${Os}, not for Linux`);
  const digests = (RootFS.Layers ?? []).map((id) => DIFF_ID.exec(id)?.[1]);
  if (digests.length === 0) throw new BuildFailed('the image is empty: it has no files');
  if (digests.length > IMAGE_LAYERS_MAX) throw new BuildFailed(`the image has more than ${IMAGE_LAYERS_MAX} layers`);
  if (!digests.every((digest) => digest !== undefined)) throw new Error('the engine named a layer in an unknown way');
  return digests;
}

/** Sizes of the stored layers spare those the way over the disk; when that mistook one, all of them take it. */
async function sendMissing(
  engine: ImageEngine,
  layers: StoredLayers,
  request: ExportRequest,
  missing: Set<string>,
  sizes: Map<string, number>,
): Promise<void> {
  const storedSizes = new Set(sizes.values());
  for (const skip of storedSizes.size > 0 ? [storedSizes, new Set<number>()] : [storedSizes]) {
    const archive = await engine.save(request.imageId, request.signal);
    await visitSavedLayers(archive, async (size, content) => {
      if (skip.has(size)) return;
      const file = join(request.directory, 'layer');
      const layer = await spool(content, file, request.bytesMax);
      if (missing.delete(layer.sha256)) {
        request.say(`Storing layer ${layer.sha256.slice(0, 12)}, ${sizeText(layer.bytes)}`);
        await layers.send(request.buildId, layer, file, request.signal);
        sizes.set(layer.sha256, layer.bytes);
      }
      await rm(file, { force: true });
    });
    if (missing.size === 0) return;
  }
  throw new Error('the engine did not save all layers of the image');
}

/** Writes a layer to a file, uncompressed, whatever it came as. */
async function spool(content: AsyncIterable<Buffer>, path: string, bytesMax: number): Promise<ImageLayer> {
  const hash = createHash('sha256');
  const file = await open(path, 'w', 0o600);
  let bytes = 0;
  try {
    for await (const piece of await uncompressed(content)) {
      bytes += piece.length;
      if (bytes > bytesMax) throw new BuildFailed(`a layer has more than ${Math.floor(bytesMax / MB)} MB`);
      hash.update(piece);
      await file.writeFile(piece);
    }
  } finally {
    await file.close();
  }
  return { sha256: hash.digest('hex'), bytes };
}

async function uncompressed(content: AsyncIterable<Buffer>): Promise<AsyncIterable<Buffer>> {
  const pieces = content[Symbol.asyncIterator]();
  const first = await pieces.next();
  const whole = async function* (): AsyncGenerator<Buffer> {
    for (let piece = first; piece.done !== true; piece = await pieces.next()) yield piece.value;
  };
  if (first.done === true || first.value.length < 2 || first.value.readUInt16BE(0) !== GZIP) return whole();
  const source = Readable.from(whole());
  const gunzip = createGunzip();
  source.on('error', (err) => gunzip.destroy(err));
  return source.pipe(gunzip);
}

function describe({ Architecture, Config }: ImageInspectInfo, layers: ImageLayer[]): BuiltImage {
  const architecture = ARCHITECTURES[Architecture];
  if (architecture === undefined) throw new BuildFailed(`the image is for ${Architecture}, not for amd64 or arm64`);
  const ports = Object.keys(Config.ExposedPorts ?? {}).map((port) => /^(\d+)(?:\/tcp)?$/.exec(port)?.[1]);
  return {
    architecture,
    layers,
    entrypoint: listOf(Config.Entrypoint),
    command: listOf(Config.Cmd),
    environment: listOf(Config.Env),
    workingDirectory: Config.WorkingDir ?? '',
    exposedPorts: ports.filter((port) => port !== undefined).map(Number),
  };
}

function listOf(value: string | string[] | null | undefined): string[] {
  if (value === null || value === undefined) return [];
  return typeof value === 'string' ? [value] : value;
}

function sizeText(bytes: number): string {
  return bytes < MB ? `${Math.ceil(bytes / 1024)} KB` : `${(bytes / MB).toFixed(1)} MB`;
}
