import { createHash } from 'node:crypto';
import type { ImageLayer, ImageSpec } from '@lambda-fleet/proto';
import { Header } from 'tar';

const BLOCK_BYTES = 512;
const MANIFEST = 'manifest.json';
const CONFIG = 'config.json';

/** As Docker calls them. */
const ENGINE_ARCHITECTURES: Readonly<Record<string, string>> = { x64: 'amd64', arm64: 'arm64' };

/**
 * The configuration of the image that a node loads: its layers and nothing else. What a Dockerfile says of volumes, health checks
 * and triggers is not in it, so an engine cannot act on it; how the program starts is said for each container.
 */
function imageConfig({ architecture, layers }: ImageSpec): Buffer {
  return Buffer.from(
    JSON.stringify({
      architecture: ENGINE_ARCHITECTURES[architecture] ?? architecture,
      config: {},
      created: '1970-01-01T00:00:00Z',
      os: 'linux',
      rootfs: { type: 'layers', diff_ids: layers.map(({ sha256 }) => `sha256:${sha256}`) },
    }),
  );
}

/** What an image is known by on a node: equal layers are one image, whatever functions start in it. */
export function imageDigest(image: ImageSpec): string {
  return createHash('sha256').update(imageConfig(image)).digest('hex');
}

/**
 * An archive for `docker load`. Layers from `from` on are in it; the engine has those before.
 *
 * @param read a layer's bytes; exactly as many as it says must come
 */
export async function* imageArchive(
  image: ImageSpec,
  name: string,
  from: number,
  read: (layer: ImageLayer) => AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  const layers = image.layers.map(({ sha256 }) => `${sha256}.tar`);
  yield* entry(MANIFEST, Buffer.from(JSON.stringify([{ Config: CONFIG, RepoTags: [name], Layers: layers }])));
  yield* entry(CONFIG, imageConfig(image));
  const written = new Set<string>();
  for (const layer of image.layers.slice(from)) {
    // An image may stand on the same layer twice.
    if (written.has(layer.sha256)) continue;
    written.add(layer.sha256);
    yield head(`${layer.sha256}.tar`, layer.bytes);
    yield* read(layer);
    yield padding(layer.bytes);
  }
  yield Buffer.alloc(2 * BLOCK_BYTES);
}

function* entry(path: string, content: Buffer): Generator<Uint8Array> {
  yield head(path, content.length);
  yield content;
  yield padding(content.length);
}

function head(path: string, size: number): Buffer {
  const block = Buffer.alloc(BLOCK_BYTES);
  new Header({ path, size, mode: 0o644, uid: 0, gid: 0, mtime: new Date(0), type: 'File' }).encode(block, 0);
  return block;
}

function padding(bytes: number): Buffer {
  return Buffer.alloc((BLOCK_BYTES - (bytes % BLOCK_BYTES)) % BLOCK_BYTES);
}
