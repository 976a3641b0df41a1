import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readConfig } from './config.js';
import { findServer } from './find-server.js';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lambda-find-'));
  await mkdir(join(folder, 'project/.lambda'), { recursive: true });
  await mkdir(join(folder, 'project/a/b'), { recursive: true });
  await mkdir(join(folder, 'config/lambda'), { recursive: true });
});
afterEach(() => rm(folder, { recursive: true, force: true }));

async function writeContext(place: string, endpoint: string, apiKeyFile: string): Promise<void> {
  await writeFile(join(folder, place, 'context.json'), JSON.stringify({ endpoint, apiKeyFile }));
}

function find(flags = {}, env = {}) {
  const config = readConfig({ XDG_CONFIG_HOME: join(folder, 'config'), ...env });
  const { endpoint, apiKey, source } = findServer(flags, config, join(folder, 'project/a/b'));
  return { endpoint: endpoint.origin, key: apiKey?.reveal(), source };
}

describe('finding the server', () => {
  it('falls back to the default endpoint without a key', () => {
    expect(find()).toEqual({ endpoint: 'http://localhost:8080', key: undefined, source: 'the default' });
  });

  it('prefers flags, then the environment, then the nearest context, then the user context', async () => {
    await writeContext('config/lambda', 'http://user:1', join(folder, 'key'));
    await writeFile(join(folder, 'key'), 'user-key\n');
    expect(find()).toMatchObject({ endpoint: 'http://user:1', key: 'user-key' });
    await writeContext('project/.lambda', 'http://project:2', 'api-key');
    await writeFile(join(folder, 'project/.lambda/api-key'), 'project-key\n');
    expect(find()).toMatchObject({ endpoint: 'http://project:2', key: 'project-key' });
    const env = { LAMBDA_ENDPOINT: 'http://env:3', LAMBDA_API_KEY: 'env-key' };
    expect(find({}, env)).toMatchObject({ endpoint: 'http://env:3', key: 'env-key' });
    expect(find({ endpoint: 'http://flag:4', apiKey: 'flag-key' }, env)).toMatchObject({
      endpoint: 'http://flag:4',
      key: 'flag-key',
    });
  });

  it("never sends a context's key to another endpoint", async () => {
    await writeContext('project/.lambda', 'http://project:2', 'api-key');
    await writeFile(join(folder, 'project/.lambda/api-key'), 'project-key');
    expect(find({ endpoint: 'http://elsewhere:5' }).key).toBeUndefined();
    expect(find({ endpoint: 'http://project:2/' }).key).toBe('project-key');
  });

  it('refuses a context of a project that names a key outside its folder, by path or by link', async () => {
    await writeFile(join(folder, 'private'), 'private-word');
    await writeContext('project/.lambda', 'http://evil:6', '../../private');
    expect(() => find()).toThrow('outside its own folder');
    await writeContext('project/.lambda', 'http://evil:6', 'api-key');
    await symlink(join(folder, 'private'), join(folder, 'project/.lambda/api-key'));
    expect(() => find()).toThrow('outside its own folder');
  });

  it('refuses a key that is no key, and an endpoint that is no URL', async () => {
    expect(() => find({ apiKey: 'two words' })).toThrow('not one word');
    expect(() => find({ endpoint: 'localhost:8080' })).toThrow('not an http or https URL');
    await writeFile(join(folder, 'project/.lambda/context.json'), '{');
    expect(() => find()).toThrow('is not JSON');
  });
});
