import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { defaultDockerHost, parseDockerHost } from './docker-host.js';

test.each([
  ['unix:///var/run/docker.sock', { socketPath: '/var/run/docker.sock' }],
  ['npipe:////./pipe/docker_engine', { socketPath: '//./pipe/docker_engine' }],
  ['tcp://10.0.0.1:2375', { host: '10.0.0.1', port: 2375 }],
  ['tcp://localhost', { host: 'localhost', port: 2375 }],
  ['ssh://user@host', undefined],
  ['unix://', undefined],
  ['nonsense', undefined],
])('DOCKER_HOST=%s is read', (text, expected) => {
  expect(parseDockerHost(text)).toEqual(expected);
});

test('the socket of Docker Desktop in the user’s folder goes before the usual one', async () => {
  const home = await mkdtemp(join(tmpdir(), 'home-'));
  expect(defaultDockerHost('darwin', home)).toBe('unix:///var/run/docker.sock');
  await mkdir(join(home, '.docker/run'), { recursive: true });
  await writeFile(join(home, '.docker/run/docker.sock'), '');
  expect(defaultDockerHost('darwin', home)).toBe(`unix://${home}/.docker/run/docker.sock`);
  expect(parseDockerHost(defaultDockerHost('win32', home))).toEqual({ socketPath: '//./pipe/docker_engine' });
  await rm(home, { recursive: true });
});
