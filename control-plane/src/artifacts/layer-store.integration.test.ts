import { createHash, randomBytes } from 'node:crypto';
import { gunzipSync, gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startTestPostgres, type TestPostgres } from '../db/test-postgres.js';
import { ImageStore } from './image-store.js';
import { LayerStore } from './layer-store.js';
import { PostgresArtifactStore } from './postgres-artifact-store.js';

const sha256Of = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');
const layerOf = (bytes: Buffer) => ({ sha256: sha256Of(bytes), bytes: bytes.length });

/** As an agent sends it. */
async function* pieces(layer: Buffer, size = 50_000): AsyncGenerator<Buffer> {
  const bytes = gzipSync(layer, { level: 1 });
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

/** The first `share` of what an agent sends. */
async function* breakingOff(layer: Buffer, share: number): AsyncGenerator<Buffer> {
  const bytes = gzipSync(layer, { level: 1 });
  yield bytes.subarray(0, bytes.length * share);
  throw new Error('the agent is gone');
}

describe('layers of container images', () => {
  let postgres: TestPostgres;
  let artifacts: PostgresArtifactStore;
  let layers: LayerStore;
  let images: ImageStore;
  beforeAll(async () => {
    postgres = await startTestPostgres();
    artifacts = new PostgresArtifactStore(postgres.database);
    layers = new LayerStore(postgres.database, artifacts);
    images = new ImageStore(postgres.database, artifacts);
  });
  afterAll(() => postgres.close());

  const readAll = async (sha256: string): Promise<Buffer> => {
    const chunks: Buffer[] = [];
    for await (const chunk of artifacts.read('default', sha256)) chunks.push(chunk);
    return gunzipSync(Buffer.concat(chunks));
  };
  const missing = async (projectId: string, digests: string[]) => {
    const stored = new Set((await layers.stored(projectId, digests)).map(({ sha256 }) => sha256));
    return digests.filter((digest) => !stored.has(digest));
  };
  const imageOf = (...of: Buffer[]) => ({
    ...{ architecture: 'x64', layers: of.map(layerOf), entrypoint: ['/app'], command: [], environment: [] },
    ...{ workingDirectory: '', exposedPorts: [] },
  });
  const ageEverything = () =>
    postgres.database.run('age', (sql) => sql`update artifacts set touched_at = now() - interval '2 hours'`);

  it('come back as they were put, in pieces of any size', async () => {
    for (const bytes of [1, 64 * 1024, 64 * 1024 + 1, 5_000_000]) {
      const layer = randomBytes(bytes);
      await layers.put('default', layerOf(layer), pieces(layer, 70_001));
      expect((await readAll(sha256Of(layer))).equals(layer)).toBe(true);
    }
  });

  it('are known once they are whole, each project for itself', async () => {
    const [one, two] = [randomBytes(100_000), randomBytes(100_000)];
    await layers.put('default', layerOf(one), pieces(one));
    await expect(layers.put('default', layerOf(two), breakingOff(two, 0.7))).rejects.toThrow('gone');
    expect(await missing('default', [sha256Of(one), sha256Of(two)])).toEqual([sha256Of(two)]);
    expect(await missing('other', [sha256Of(one)])).toEqual([sha256Of(one)]);
  });

  it.each([
    ['other bytes', (layer: Buffer) => ({ ...layerOf(layer), sha256: 'f'.repeat(64) })],
    ['more bytes', (layer: Buffer) => ({ ...layerOf(layer), bytes: layer.length - 1 })],
    ['fewer bytes', (layer: Buffer) => ({ ...layerOf(layer), bytes: layer.length + 1 })],
  ])('with %s than they claim are refused and leave nothing', async (_, claim) => {
    const layer = randomBytes(200_000);
    const claimed = claim(layer);
    await expect(layers.put('default', claimed, pieces(layer))).rejects.toMatchObject({ code: 'invalid_archive' });
    expect(await missing('default', [claimed.sha256])).toEqual([claimed.sha256]);
    await expect(readAll(claimed.sha256)).rejects.toMatchObject({ code: 'invalid_archive' });
  });

  it.each([
    ['is no gzip', Buffer.alloc(100_000, 'x')],
    ['is cut off', gzipSync(randomBytes(100_000)).subarray(0, 50_000)],
    ['is a bomb', gzipSync(Buffer.alloc(50_000_000))],
    ['is nothing', Buffer.alloc(0)],
  ])('whose stream %s are refused and leave nothing', async (_, stream) => {
    const claim = layerOf(randomBytes(100_000));
    const put = layers.put(
      'default',
      claim,
      (async function* () {
        yield stream;
      })(),
    );
    await expect(put).rejects.toMatchObject({ code: 'invalid_archive' });
    expect(await missing('default', [claim.sha256])).toEqual([claim.sha256]);
  });

  it('that broke off are finished by the next put', async () => {
    const layer = randomBytes(400_000);
    const claim = layerOf(layer);
    await expect(layers.put('default', claim, breakingOff(layer, 0.5))).rejects.toThrow();
    await layers.put('default', claim, pieces(layer));
    expect((await readAll(claim.sha256)).equals(layer)).toBe(true);
  });

  it('whose name somebody gave to other bytes are never mixed with these', async () => {
    // More than one statement takes, so that some of it is stored before it breaks off.
    const layer = randomBytes(3 * 1024 * 1024);
    const poison = randomBytes(layer.length);
    const claim = layerOf(layer);
    await expect(layers.put('default', claim, breakingOff(poison, 0.8))).rejects.toThrow();
    await expect(layers.put('default', claim, pieces(layer))).rejects.toMatchObject({ code: 'unavailable' });
    expect(await missing('default', [claim.sha256])).toEqual([claim.sha256]);
    await layers.put('default', claim, pieces(layer));
    expect((await readAll(claim.sha256)).equals(layer)).toBe(true);
  });

  it('put by several at once are stored once', async () => {
    const layer = randomBytes(3 * 1024 * 1024);
    const puts = await Promise.allSettled(
      [1, 2, 3].map(() => layers.put('default', layerOf(layer), pieces(layer, 60_000))),
    );
    expect(puts.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'fulfilled']);
    expect((await readAll(sha256Of(layer))).equals(layer)).toBe(true);
  });

  it('are kept while an image stands on them, and go after it', async () => {
    const [base, top] = [randomBytes(1_000), randomBytes(1_000)];
    for (const layer of [base, top]) await layers.put('default', layerOf(layer), pieces(layer));
    const first = await images.put('default', imageOf(base, top));
    const again = await images.put('default', imageOf(base, top));
    expect(again).toMatchObject({ sha256: first.sha256, created: false });
    await ageEverything();
    // An image that was used a moment ago keeps what it stands on, however old that is.
    await images.put('default', imageOf(base, top));
    await artifacts.removeUnused();
    expect(await missing('default', [sha256Of(base)])).toEqual([]);
    await ageEverything();
    await artifacts.removeUnused();
    await ageEverything();
    await artifacts.removeUnused();
    expect(await missing('default', [sha256Of(base), sha256Of(top)])).toHaveLength(2);
    await expect(readAll(first.sha256)).rejects.toMatchObject({ code: 'invalid_archive' });
  });

  it.each([
    ['a layer that is not stored', (base: Buffer) => imageOf(base, randomBytes(10))],
    [
      'a size that a layer does not have',
      (base: Buffer) => ({ ...imageOf(base), layers: [{ ...layerOf(base), bytes: 7 }] }),
    ],
  ])('an image with %s is refused and leaves nothing', async (_, imageWith) => {
    const base = randomBytes(1_000);
    await layers.put('default', layerOf(base), pieces(base));
    const count = async () =>
      (await postgres.database.run('count', (sql) => sql<{ n: number }[]>`select count(*) as n from artifacts`))[0]?.n;
    const before = await count();
    await expect(images.put('default', imageWith(base))).rejects.toMatchObject({ code: 'build_failed' });
    expect(await count()).toBe(before);
  });
});
