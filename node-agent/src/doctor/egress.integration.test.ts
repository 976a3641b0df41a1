import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { EngineOfItsOwn } from '../../test-support/engine-of-its-own.js';
import { World } from '../../test-support/world.js';
import type { Check } from './check.js';

const DOCTOR = fileURLToPath(new URL('../../dist/doctor.js', import.meta.url));

let engine: EngineOfItsOwn;
let world: World;
let dataDir: string;
beforeAll(async () => {
  // Its own rules are what an engine usually has: nothing is forwarded that no rule of it lets through.
  engine = await EngineOfItsOwn.start(undefined, true);
  await engine.copyImages('lambda-fleet/runtime-nodejs:current');
  world = await World.around(await engine.pid());
  dataDir = await mkdtemp('/var/tmp/doctor-egress-');
});
afterAll(async () => {
  await rm(dataDir, { recursive: true, force: true });
  await world?.end();
  await engine?.stop();
});

async function doctor(command: string, ...args: string[]): Promise<ReadonlyMap<string, Check>> {
  const env = { PATH: process.env.PATH, DOCKER_HOST: engine.host, LAMBDA_DATA_DIR: dataDir };
  const { stdout } = await promisify(execFile)(command, [...args, DOCTOR], { env });
  const checks = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Check);
  return new Map(checks.map((check) => [check.name, check]));
}

const good = (checks: ReadonlyMap<string, Check>) =>
  ['egress', 'runc egress', 'gvisor egress'].map((name) => checks.get(name)?.status ?? `no ${name}`);

test('egress works where the engine is in another network namespace', async () => {
  expect(good(await doctor(process.execPath))).toEqual(['ok', 'ok', 'ok']);
});

test('and where it is in the agent’s own, as usual; nothing is left of it', async () => {
  const inEngines = ['nsenter', `--net=/proc/${await engine.pid()}/ns/net`, process.execPath] as const;
  expect(good(await doctor(...inEngines))).toEqual(['ok', 'ok', 'ok']);
  expect(await world.host.run('nft', ['list', 'tables'])).not.toContain('lambda');
  expect(
    (await engine.docker.listNetworks()).map(({ Name }) => Name).filter((name) => name.startsWith('lambda')),
  ).toEqual([]);
});
