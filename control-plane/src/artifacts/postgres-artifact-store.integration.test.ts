import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startTestPostgres, type TestPostgres } from '../db/test-postgres.js';
import { PostgresArtifactStore } from './postgres-artifact-store.js';

describe('the artifact store', () => {
  let postgres: TestPostgres;
  let store: PostgresArtifactStore;
  beforeAll(async () => {
    postgres = await startTestPostgres();
    store = new PostgresArtifactStore(postgres.database);
  });
  afterAll(() => postgres.close());

  const readAll = async (sha256: string): Promise<Buffer> => {
    const chunks: Buffer[] = [];
    for await (const chunk of store.read('default', sha256)) chunks.push(chunk);
    expect(chunks.every((chunk) => chunk.length <= 64 * 1024)).toBe(true);
    return Buffer.concat(chunks);
  };

  it('gives back the same bytes in small chunks, and stores them once', async () => {
    for (const bytes of [1, 64 * 1024, 64 * 1024 + 1, 5_000_000]) {
      const archive = randomBytes(bytes);
      const first = await store.put('default', archive);
      expect(first).toMatchObject({ bytes, created: true });
      expect((await readAll(first.sha256)).equals(archive)).toBe(true);
      expect(await store.put('default', archive)).toMatchObject({ sha256: first.sha256, created: false });
    }
  });

  it('the largest archive goes in and out', async () => {
    const archive = randomBytes(50 * 1024 * 1024);
    const { sha256 } = await store.put('default', archive);
    expect((await readAll(sha256)).equals(archive)).toBe(true);
  });

  it('an interrupted put is invisible, and the same put finishes it', async () => {
    const archive = randomBytes(200_000);
    const { sha256 } = await store.put('default', archive);
    await postgres.database.run(
      'break',
      (sql) => sql`
      with chunk as (delete from artifact_chunks where sha256 = ${sha256} and sequence = 1)
      update artifacts set complete = false where sha256 = ${sha256}`,
    );
    await expect(readAll(sha256)).rejects.toMatchObject({ code: 'invalid_archive' });
    expect(await store.put('default', archive)).toMatchObject({ created: true });
    expect((await readAll(sha256)).equals(archive)).toBe(true);
  });

  it('puts of the same archive at once make one artifact', async () => {
    const archive = randomBytes(300_000);
    const puts = await Promise.all([1, 2, 3, 4].map(() => store.put('default', archive)));
    expect(new Set(puts.map((put) => put.sha256)).size).toBe(1);
    expect((await readAll(puts[0]?.sha256 ?? '')).equals(archive)).toBe(true);
  });

  it('taking a put back leaves what somebody else has put since', async () => {
    const archive = randomBytes(1_000);
    const mine = await store.put('default', archive);
    const theirs = await store.put('default', archive);
    await store.takeBack('default', mine);
    expect((await readAll(mine.sha256)).length).toBe(1_000);
    await store.takeBack('default', { ...theirs, created: true });
    await expect(readAll(mine.sha256)).rejects.toMatchObject({ code: 'invalid_archive' });
  });

  it('sweeps only what is unused and old', async () => {
    const old = await store.put('default', randomBytes(10));
    const young = await store.put('default', randomBytes(10));
    await postgres.database.run(
      'age',
      (sql) => sql`
      update artifacts set touched_at = now() - interval '2 hours' where sha256 = ${old.sha256}`,
    );
    expect(await store.removeUnused()).toBe(1);
    expect((await readAll(young.sha256)).length).toBe(10);
  });
});
