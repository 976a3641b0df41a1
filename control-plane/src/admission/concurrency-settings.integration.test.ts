import { pino } from 'pino';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { NotificationListener } from '../db/notification-listener.js';
import { startTestPostgres, type TestPostgres } from '../db/test-postgres.js';
import { configOf } from '../functions/definition.js';
import { FunctionTable } from '../functions/function-table.js';
import { VersionCache } from '../functions/version-cache.js';
import { AccountConcurrency } from './account-concurrency.js';
import { ConcurrencySettingsTable } from './concurrency-settings.js';

const log = pino({ level: 'silent' });
/** Of which 10 always stay unreserved. */
const ACCOUNT = 100;

let postgres: TestPostgres;
let functions: FunctionTable;
let settings: ConcurrencySettingsTable;

beforeAll(async () => {
  postgres = await startTestPostgres();
  functions = new FunctionTable(postgres.database);
  settings = new ConcurrencySettingsTable(postgres.database, ACCOUNT);
  await postgres.database.run(
    'insert artifact',
    (sql) => sql`insert into artifacts (project_id, sha256, bytes, complete) values ('default', 'aa', 1, true)`,
  );
});
afterAll(() => postgres.close());
beforeEach(() => postgres.database.run('delete functions', (sql) => sql`delete from functions`));

async function deploy(name: string) {
  return functions.insert({
    ...configOf(name, { handler: 'index.handler', runtime: 'nodejs' }),
    ...{ id: uuidv7(), projectId: 'default', versionId: uuidv7(), version: 1 },
    ...{ artifactSha256: 'aa', artifactBytes: 1, image: null },
  });
}

describe('concurrency of functions', () => {
  it('changes what is given, shows it with the function, and keeps it over a deploy', async () => {
    const before = await deploy('f');
    expect(await settings.get('default', 'f')).toEqual({ reserved: null, maximum: null });
    expect(await settings.change('default', 'f', { reserved: 5 })).toEqual({ reserved: 5, maximum: null });
    expect(await settings.change('default', 'f', { maximum: 3 })).toEqual({ reserved: 5, maximum: 3 });
    await functions.replace(before, { ...before, versionId: uuidv7(), version: 2 });
    expect(await functions.find('default', 'f')).toMatchObject({ reservedConcurrency: 5, maximumConcurrency: 3 });
    expect(await settings.change('default', 'f', { reserved: null })).toEqual({ reserved: null, maximum: 3 });
    expect(await settings.clear('default', 'f')).toEqual({ reserved: null, maximum: null });
  });

  it.each([
    [{}, 'must say'],
    [{ reserved: -1 }, 'reserved must be'],
    [{ reserved: 1.5 }, 'reserved must be'],
    [{ maximum: 0 }, 'maximum must be'],
    [{ limit: 3 }, 'no field "limit"'],
    [[], 'must be an object'],
  ])('refuses %j', async (body, message) => {
    await deploy('f');
    await expect(settings.change('default', 'f', body)).rejects.toMatchObject({
      code: 'invalid_request',
      message: expect.stringContaining(message),
    });
    expect(await settings.get('default', 'f')).toEqual({ reserved: null, maximum: null });
  });

  it('knows no function of another name', async () => {
    await expect(settings.get('default', 'nobody')).rejects.toMatchObject({ code: 'function_not_found' });
    await expect(settings.change('default', 'nobody', { reserved: 1 })).rejects.toMatchObject({
      code: 'function_not_found',
    });
  });

  it('refuses what would leave too little for the others, says how much is left, and stores nothing', async () => {
    await deploy('f');
    await deploy('g');
    await settings.change('default', 'f', { reserved: 60, maximum: 70 });
    await expect(settings.change('default', 'g', { reserved: 31, maximum: 5 })).rejects.toMatchObject({
      code: 'conflict',
      details: { left: 30 },
    });
    expect(await settings.get('default', 'g')).toEqual({ reserved: null, maximum: null });
    expect(await settings.change('default', 'g', { reserved: 30 })).toMatchObject({ reserved: 30 });
    // Its own part is not in its own way.
    expect(await settings.change('default', 'f', { reserved: 40 })).toMatchObject({ reserved: 40 });
    expect(await settings.change('default', 'g', { reserved: 0 })).toMatchObject({ reserved: 0 });
  });

  it('gives the last part to one of many that ask for it at once', async () => {
    const names = Array.from({ length: 8 }, (_, at) => `f${at}`);
    for (const name of names) await deploy(name);
    for (let round = 0; round < 10; round += 1) {
      const ends = await Promise.allSettled(names.map((name) => settings.change('default', name, { reserved: 40 })));
      expect(ends.filter(({ status }) => status === 'fulfilled')).toHaveLength(2);
      for (const end of ends)
        if (end.status === 'rejected') expect(end.reason).toMatchObject({ details: { left: 10 } });
      await Promise.all(names.map((name) => settings.clear('default', name)));
    }
  });

  it('every replica learns of a change, and of what it leaves to the others', async () => {
    await deploy('f');
    const listener = new NotificationListener(postgres.database, log);
    const cache = new VersionCache(functions, listener);
    const account = new AccountConcurrency(postgres.database, ACCOUNT, log);
    listener.on('functions', () => account.functionsChanged());
    const restored = new Promise<void>((resolve) => listener.onRestored(resolve));
    listener.start();
    await restored;
    expect((await cache.resolve('default', 'f')).limits).toMatchObject({ max: undefined, reserved: false });
    await settings.change('default', 'f', { reserved: 25, maximum: 20 });
    await expect
      .poll(async () => (await cache.resolve('default', 'f')).limits)
      .toMatchObject({ max: 20, reserved: true });
    await expect.poll(() => account.unreservedOf('default')).toBe(75);
    await functions.remove('default', 'f');
    await expect.poll(() => account.unreservedOf('default')).toBe(100);
    account.close();
    await listener.close();
  });
});
