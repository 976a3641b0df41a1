import { FleetError } from '@lambda-fleet/common/errors';
import { pino } from 'pino';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Database } from '../db/database.js';
import { startTestPostgres, type TestPostgres } from '../db/test-postgres.js';
import type { KeyClaim } from './idempotency-key.js';
import { IdempotencyKeys } from './idempotency-keys.js';

const log = pino({ level: 'silent' });
const answer = { status: 200, headers: ['content-type', 'text/plain'], body: Buffer.from('kept') };

describe('idempotency keys', () => {
  let postgres: TestPostgres;
  let keys: IdempotencyKeys | undefined;
  beforeAll(async () => {
    postgres = await startTestPostgres();
  });
  afterAll(() => postgres.close());
  afterEach(() => keys?.close());

  const begin = (database: Database, storeWaitMs = 10_000): IdempotencyKeys => {
    keys = new IdempotencyKeys({ database, log, storeWaitMs });
    return keys;
  };
  const claimOf = (key: string, more: Partial<KeyClaim> = {}): KeyClaim => ({
    ...{ projectId: 'default', scope: 'test', key, requestHash: 'aa', invocationId: uuidv7(), runsMs: 60_000 },
    ...more,
  });
  /** A database that carries statements out whose answers are lost on the way, while `loses` says so. */
  const losing = (loses: (what: string) => boolean): Database =>
    ({
      run: async (what: string, statement: Parameters<Database['run']>[1]) => {
        const rows = await postgres.database.run(what, statement);
        if (loses(what)) throw new FleetError('unavailable', 'lost');
        return rows;
      },
    }) as unknown as Database;

  it('a claim whose answer was lost leaves the key free, because nothing is run', async () => {
    let lost = true;
    const claims = begin(losing((what) => lost && what.startsWith('claim')));
    await expect(claims.claim(claimOf('lost'))).rejects.toMatchObject({ code: 'unavailable' });
    lost = false;
    await expect.poll(() => claims.claim(claimOf('lost'))).toEqual({ kind: 'claimed' });
  });

  it('an answer that is not stored in time goes on to be stored', async () => {
    let lost = true;
    const claims = begin(
      losing((what) => lost && what.startsWith('settle')),
      50,
    );
    const claim = claimOf('late');
    await claims.claim(claim);
    await claims.keep(claim, answer);
    lost = false;
    await expect.poll(() => claims.claim(claimOf('late')), { timeout: 10_000 }).toEqual({ kind: 'answered', answer });
  });

  it('the first answer stays, and only who holds a key settles it', async () => {
    const claims = begin(postgres.database);
    const claim = claimOf('held');
    await claims.claim(claim);
    await claims.keep(claimOf('held'), { ...answer, status: 500 });
    await claims.release(claimOf('held'));
    expect(await claims.claim(claimOf('held'))).toMatchObject({ kind: 'unanswered', invocationId: claim.invocationId });
    await claims.keep(claim, answer);
    await claims.keep(claim, { ...answer, status: 500 });
    await claims.release(claim);
    expect(await claims.claim(claimOf('held'))).toEqual({ kind: 'answered', answer });
  });

  it('an answer that the database cannot hold keeps no other from being stored', async () => {
    const claims = begin(postgres.database);
    const [bad, good] = [claimOf('bad'), claimOf('good')];
    await Promise.all([claims.claim(bad), claims.claim(good)]);
    await Promise.all([claims.keep(bad, { ...answer, headers: ['x', '\0'] }), claims.keep(good, answer)]);
    expect(await claims.claim(claimOf('good'))).toMatchObject({ kind: 'answered' });
    expect(await claims.claim(claimOf('bad'))).toMatchObject({ kind: 'unanswered' });
  });

  it('claims of two processes at the same moment have one winner each, and none waits in a circle', async () => {
    const other = new IdempotencyKeys({ database: postgres.database, log });
    const claims = begin(postgres.database);
    const names = Array.from({ length: 100 }, (_, i) => `race ${i}`);
    const found = await Promise.all([
      ...names.map((key) => claims.claim(claimOf(key))),
      ...names.toReversed().map((key) => other.claim(claimOf(key))),
    ]);
    expect(found.filter(({ kind }) => kind === 'claimed')).toHaveLength(100);
    expect(found.filter(({ kind }) => kind === 'unanswered')).toHaveLength(100);
    await other.close();
  });

  it('of two different requests with one key in one statement one is refused', async () => {
    const claims = begin(postgres.database);
    const [first, second] = await Promise.allSettled([
      claims.claim(claimOf('two')),
      claims.claim(claimOf('two', { requestHash: 'bb' })),
    ]);
    expect(first).toMatchObject({ status: 'fulfilled', value: { kind: 'claimed' } });
    expect(second).toMatchObject({ status: 'rejected', reason: { code: 'idempotency_mismatch' } });
  });

  it('many answers that are large are stored together within the limits of a statement', async () => {
    const claims = begin(postgres.database);
    const large = { ...answer, body: Buffer.alloc(6_291_556, 'x') };
    const mine = Array.from({ length: 6 }, (_, i) => claimOf(`large ${i}`));
    await Promise.all(mine.map((claim) => claims.claim(claim)));
    await Promise.all(mine.map((claim) => claims.keep(claim, large)));
    for (const { key } of mine) expect(await claims.claim(claimOf(key))).toMatchObject({ kind: 'answered' });
  });
});
