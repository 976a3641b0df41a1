import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { defaultDockerHost } from '@lambda-fleet/common/docker-host';
import { type Build, type BuildEnd, type BuildLine, type ImageLayer, LogStream } from '@lambda-fleet/proto';
import { create } from 'tar';
import { type BuildLimits, ImageBuilder } from '../src/images/image-builder.js';
import { ImageEngine } from '../src/images/image-engine.js';
import type { StoredLayers } from '../src/images/image-exporter.js';
import { log } from './host-under-test.js';
import { noteImages } from './images-left.js';

export type Files = Readonly<Record<string, string | Buffer>>;

/** An artifact store in memory. */
export class LayersInMemory implements StoredLayers {
  /** By digest, as the store has them: compressed. */
  readonly layers = new Map<string, Buffer>();
  readonly #sizes = new Map<string, number>();
  /** Digests in the order in which they were sent. */
  readonly sent: string[] = [];
  failure: Error | undefined;

  async stored(_: string, sha256: readonly string[]): Promise<readonly ImageLayer[]> {
    return sha256.flatMap((digest) => {
      const bytes = this.#sizes.get(digest);
      return bytes === undefined ? [] : [{ sha256: digest, bytes }];
    });
  }

  async send(_: string, { sha256, bytes }: ImageLayer, file: string): Promise<void> {
    if (this.failure !== undefined) throw this.failure;
    const content = await readFile(file);
    if (content.length !== bytes) throw new Error('not as long as it says');
    if (createHash('sha256').update(content).digest('hex') !== sha256) throw new Error('not what it says');
    this.sent.push(sha256);
    this.layers.set(sha256, gzipSync(content, { level: 1 }));
    this.#sizes.set(sha256, bytes);
  }
}

export interface Built {
  readonly end: BuildEnd;
  readonly lines: readonly BuildLine[];
  /** All that the builder and its steps wrote. */
  readonly text: string;
  /** All that the platform said. */
  readonly platform: string;
}

const BUILD_OWNER = 'build-under-test';
const LIMITS: BuildLimits = { memoryBytes: 256 << 20, cpus: 1, timeoutMs: 60_000, diskBytes: 4 * 2 ** 30 };

/** A builder on a real engine, with build contexts made of texts. */
export class BuilderUnderTest {
  readonly #archives: Map<string, Buffer>;
  #builds = 0;

  private constructor(
    readonly builder: ImageBuilder,
    readonly engine: ImageEngine,
    readonly layers: LayersInMemory,
    readonly directory: string,
    archives: Map<string, Buffer>,
    private readonly removeImages: () => Promise<void>,
  ) {
    this.#archives = archives;
  }

  static async open(
    limits: Partial<BuildLimits> = {},
    layers = new LayersInMemory(),
    directory?: string,
  ): Promise<BuilderUnderTest> {
    const place = directory ?? (await mkdtemp(join(tmpdir(), 'builder-')));
    const engine = await ImageEngine.connect(process.env.DOCKER_HOST ?? defaultDockerHost());
    const archives = new Map<string, Buffer>();
    const builder = await ImageBuilder.open({
      ...{ engine, layers, directory: place, owner: BUILD_OWNER, network: 'auto', log },
      fetchArtifact: async function* (sha256) {
        yield archives.get(sha256) ?? Buffer.alloc(0);
      },
      limits: { ...LIMITS, ...limits },
    });
    return new BuilderUnderTest(builder, engine, layers, place, archives, await noteImages());
  }

  /** The digest of an archive that the builder can fetch. */
  addArchive(archive: Buffer): string {
    const sha256 = createHash('sha256').update(archive).digest('hex');
    this.#archives.set(sha256, archive);
    return sha256;
  }

  async context(files: Files): Promise<string> {
    const folder = await mkdtemp(join(tmpdir(), 'context-'));
    try {
      for (const [name, content] of Object.entries(files)) {
        await mkdir(dirname(join(folder, name)), { recursive: true });
        // What is no text is a program.
        await writeFile(join(folder, name), content, { mode: Buffer.isBuffer(content) ? 0o755 : 0o644 });
      }
      const chunks: Buffer[] = [];
      for await (const chunk of create({ gzip: true, cwd: folder }, ['.'])) chunks.push(chunk);
      return this.addArchive(Buffer.concat(chunks));
    } finally {
      await rm(folder, { recursive: true });
    }
  }

  /** Begins a build; `done` resolves with its end. */
  start(
    contextSha256: string,
    more: Partial<Build> = {},
  ): { readonly id: string; readonly lines: BuildLine[]; readonly done: Promise<Built> } {
    this.#builds += 1;
    const id = `build-${this.#builds}`;
    const lines: BuildLine[] = [];
    const done = new Promise<Built>((resolve) => {
      this.builder.start(
        { buildId: id, cacheKey: 'default/under-test', contextSha256, imageBytesMax: 1 << 30, ...more },
        {
          log: (more) => lines.push(...more),
          ended: (end) => {
            const of = (platform: boolean) =>
              lines
                .filter(({ stream }) => (stream === LogStream.PLATFORM) === platform)
                .map(({ text }) => text)
                .join('\n');
            resolve({ end, lines, text: of(false), platform: of(true) });
          },
        },
      );
    });
    return { id, lines, done };
  }

  async build(files: Files, more: Partial<Build> = {}): Promise<Built> {
    return this.start(await this.context(files), more).done;
  }

  async close(): Promise<void> {
    await this.builder.close();
    await this.removeImages();
    await rm(this.directory, { recursive: true, force: true });
  }
}
