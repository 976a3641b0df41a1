import { setTimeout as delay } from 'node:timers/promises';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { NotificationListener } from '../db/notification-listener.js';
import { startTestControlPlane, type TestControlPlane } from '../http/test-control-plane.js';
import { FunctionTable } from './function-table.js';
import { VersionCache } from './version-cache.js';

const code = { source: 'x' };
const codeOf = (work: Promise<unknown>) =>
  work.then(
    () => 'found',
    (err: { code: string }) => err.code,
  );
const log = pino({ level: 'silent' });

/** `plane` writes; `cache` is that of another replica, which hears of it by notices only. */
describe('the version cache', () => {
  let plane: TestControlPlane;
  let listener: NotificationListener;
  let functions: FunctionTable;
  let cache: VersionCache;
  beforeAll(async () => {
    plane = await startTestControlPlane();
    listener = new NotificationListener(plane.postgres.database, log);
    functions = new FunctionTable(plane.postgres.database);
    cache = new VersionCache(functions, listener);
    const restored = new Promise<void>((resolve) => listener.onRestored(resolve));
    listener.start();
    await restored;
  });
  afterAll(async () => {
    await listener.close();
    await plane.close();
  });
  const number = async (name: string) => (await cache.resolve('default', name)).spec.versionNumber;

  it('answers at once, with the same object, when warm', async () => {
    await plane.call('PUT', '/api/functions/warm', { code, route: 'warm-route' });
    const first = await cache.resolve('default', 'warm');
    expect(cache.resolve('default', 'warm')).toBe(first);
    expect(first.spec).toMatchObject({ functionName: 'warm', arn: 'arn:aws:lambda:local:000000000000:function:warm' });
    await cache.resolveRoute('default', 'warm-route');
    expect(cache.resolveRoute('default', 'warm-route')).not.toBeInstanceOf(Promise);
  });

  it('hears of changes, new routes and deletions on another replica', async () => {
    await plane.call('PUT', '/api/functions/heard', { code });
    expect(await number('heard')).toBe(1);
    await plane.call('PATCH', '/api/functions/heard', { memoryMb: 64 });
    await expect.poll(() => number('heard')).toBe(2);
    await cache.resolveRoute('default', 'heard');
    await expect(cache.resolveRoute('default', 'moved')).rejects.toMatchObject({ code: 'route_not_found' });
    await plane.call('PATCH', '/api/functions/heard', { route: 'moved' });
    await expect.poll(async () => (await cache.resolveRoute('default', 'moved')).functionName).toBe('heard');
    await expect
      .poll(async () => codeOf(Promise.resolve().then(() => cache.resolveRoute('default', 'heard'))))
      .toBe('route_not_found');
    await plane.call('DELETE', '/api/functions/heard');
    await expect.poll(() => codeOf(number('heard'))).toBe('function_not_found');
  });

  it('an unknown name is not asked for again and again, and works as soon as it exists', async () => {
    const find = vi.spyOn(functions, 'find');
    for (let i = 0; i < 20; i += 1) {
      await expect(Promise.resolve().then(() => cache.resolve('default', 'later'))).rejects.toMatchObject({
        code: 'function_not_found',
      });
    }
    expect(find).toHaveBeenCalledTimes(1);
    find.mockRestore();
    await plane.call('PUT', '/api/functions/later', { code });
    await expect.poll(() => number('later').catch(() => 0)).toBe(1);
  });

  it('callers at the same time share one look-up', async () => {
    await plane.call('PUT', '/api/functions/shared', { code });
    await delay(50);
    const find = vi.spyOn(functions, 'find');
    await Promise.all(Array.from({ length: 50 }, () => number('shared')));
    expect(find).toHaveBeenCalledTimes(1);
    find.mockRestore();
  });

  it('a look-up that was overtaken by a change is not kept', async () => {
    await plane.call('PUT', '/api/functions/raced', { code });
    await delay(50);
    const stale = await functions.find('default', 'raced');
    const find = vi.spyOn(functions, 'find').mockImplementationOnce(async () => {
      await delay(1);
      cache.invalidate({ projectId: 'default', name: 'raced', routes: [] });
      return stale;
    });
    await plane.call('PATCH', '/api/functions/raced', { memoryMb: 64 });
    await delay(50);
    await number('raced');
    expect(await number('raced')).toBe(2);
    find.mockRestore();
  });

  it('known functions are served while the database is away, and changes made elsewhere are seen afterwards', async () => {
    await plane.call('PUT', '/api/functions/outage', { code });
    // Notices come in order: once this later change is seen, the earlier one cannot empty the cache any more.
    const before = await number('warm');
    await plane.call('PATCH', '/api/functions/warm', { memoryMb: 128 });
    await expect.poll(() => number('warm')).toBe(before + 1);
    expect(await number('outage')).toBe(1);
    await plane.postgres.restart(async () => {
      expect(await number('outage')).toBe(1);
      await expect(number('never-seen')).rejects.toMatchObject({ code: 'unavailable' });
    });
    await expect
      .poll(async () => (await plane.call('PATCH', '/api/functions/outage', { memoryMb: 64 })).status, {
        timeout: 10_000,
      })
      .toBe(200);
    await expect.poll(() => number('outage'), { timeout: 15_000 }).toBe(2);
  });
});
