import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startTestPostgres, type TestPostgres } from '../db/test-postgres.js';
import { generateApiKey } from './api-key.js';
import { ApiKeys } from './api-keys.js';
import { ensureBootstrapKey } from './bootstrap-key.js';
import { authenticate } from './credentials.js';

const log = pino({ level: 'silent' });

describe('API keys', () => {
  let postgres: TestPostgres;
  let folder = '';
  beforeAll(async () => {
    postgres = await startTestPostgres();
    folder = await mkdtemp('/tmp/lf-keys-');
  });
  afterAll(async () => {
    await postgres.close();
    await rm(folder, { recursive: true, force: true });
  });

  it('a known key is verified without waiting, by either header, and no other key is accepted', async () => {
    const keys = new ApiKeys(postgres.database);
    const key = await keys.create('default', 'test');
    expect(await keys.verify(key)).toMatchObject({ projectId: 'default' });
    expect(keys.verify(key)).not.toBeInstanceOf(Promise);
    for (const headers of [{ authorization: `Bearer ${key}` }, { 'x-api-key': key }]) {
      expect(authenticate(keys, headers)).toMatchObject({ projectId: 'default' });
    }
    expect(await keys.verify(generateApiKey().key)).toBeUndefined();
    const [, prefix] = key.split('_');
    const samePrefix = generateApiKey().key.replace(/^lf_[0-9a-f]+/, `lf_${prefix}`);
    for (const wrong of ['', 'x', 'lf_', `${key}0`, key.replace(/.$/, 'g'), key.toUpperCase(), samePrefix]) {
      expect(await keys.verify(wrong)).toBeUndefined();
    }
  });

  it('the key itself is nowhere in the database', async () => {
    const key = await new ApiKeys(postgres.database).create('default', 'canary');
    const [row] = await postgres.database.run(
      'dump',
      (sql) =>
        sql<
          { dump: string }[]
        >`select jsonb_agg(k)::text || (select jsonb_agg(s)::text from settings s) as dump from api_keys k`,
    );
    expect(row?.dump).not.toContain(key.split('_')[2]?.slice(0, 16));
  });

  it('a revoked key stops working within five seconds', async () => {
    const keys = new ApiKeys(postgres.database);
    keys.start();
    try {
      const key = await keys.create('default', 'revoked');
      await keys.verify(key);
      await postgres.database.run(
        'revoke',
        (sql) => sql`update api_keys set revoked_at = now() where name = 'revoked'`,
      );
      await expect.poll(() => keys.verify(key), { timeout: 5_000 }).toBeUndefined();
    } finally {
      keys.close();
    }
  });

  it('a known key works while the database restarts, an unknown one is not accepted', async () => {
    const keys = new ApiKeys(postgres.database);
    const key = await keys.create('default', 'outage');
    await keys.verify(key);
    await postgres.restart(async () => {
      expect(await keys.verify(key)).toBeDefined();
      await expect(keys.verify(generateApiKey().key)).rejects.toMatchObject({ code: 'unavailable' });
    });
    await expect
      .poll(() => Promise.resolve(keys.verify(generateApiKey().key)).catch(() => 'away'), { timeout: 10_000 })
      .toBeUndefined();
  });

  it('the first start writes a key that works, readable by its owner only, and keeps it', async () => {
    const keys = new ApiKeys(postgres.database);
    const file = join(folder, 'api-key');
    await ensureBootstrapKey(keys, file, log);
    const key = await readFile(file, 'utf8');
    expect(await keys.verify(key.trim())).toBeDefined();
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    await ensureBootstrapKey(new ApiKeys(postgres.database), file, log);
    expect(await readFile(file, 'utf8')).toBe(key);
    await writeFile(file, `${generateApiKey().key}\n`);
    await ensureBootstrapKey(keys, file, log);
    expect(await keys.verify((await readFile(file, 'utf8')).trim())).toBeDefined();
    await rm(file);
    await ensureBootstrapKey(keys, file, log);
    expect(await keys.verify((await readFile(file, 'utf8')).trim())).toBeDefined();
  });
});
