import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { EngineOfItsOwn } from '../../../../test-support/engine-of-its-own.js';
import { HostUnderTest, log } from '../../../../test-support/host-under-test.js';
import { World } from '../../../../test-support/world.js';
import { DockerDriver } from '../docker-driver.js';
import { EngineClient } from '../engine-client.js';
import { EgressNetwork } from './egress-network.js';
import { EgressSandbox } from './egress-sandbox.js';
import { Firewall } from './firewall.js';

/** Longer than a test: these look when they are told to. */
const NEVER_MS = 1e9;

let engine: EngineOfItsOwn;
let world: World;
let client: EngineClient;
beforeAll(async () => {
  engine = await EngineOfItsOwn.start();
  await engine.copyImages('lambda-fleet/runtime-nodejs:current');
  world = await World.around(await engine.pid());
  client = await EngineClient.connect(engine.host);
});
afterAll(async () => {
  await world?.end();
  await engine?.stop();
});

const open: EgressNetwork[] = [];
afterEach(async () => {
  for (const network of open.splice(0)) await network.close();
});

async function openNetwork(owner: string): Promise<EgressNetwork> {
  const network = await EgressNetwork.open({
    engine: client,
    owner,
    nameServers: undefined,
    log,
    verifyIntervalMs: NEVER_MS,
  });
  open.push(network);
  return network;
}

const tables = async () => (await world.host.run('nft', ['list', 'tables'])).trim();
const networks = async () =>
  (await engine.docker.listNetworks({ filters: { label: ['lambda.owner'] } })).map(({ Name }) => Name);

test('a network that is closed leaves no table, no bridge and no network of the engine', async () => {
  const network = await openNetwork('a'.repeat(16));
  expect(await networks()).toEqual(['lambda-aaaaaaaa']);
  expect(await tables()).toBe('table inet lambda_aaaaaaaa');
  await network.close();
  expect(await networks()).toEqual([]);
  expect(await tables()).toBe('');
  expect(await world.host.hasInterface('lambda-aaaaaaaa')).toBe(false);
});

test('what an agent that was killed has left is taken over', async () => {
  const first = await openNetwork('a'.repeat(16));
  const again = await openNetwork('a'.repeat(16));
  expect(again.subnet).toBe(first.subnet);
  expect(await networks()).toHaveLength(1);
  await again.look();
  expect(again.working).toBe(true);
});

test('two agents have a network each', async () => {
  const [first, second] = [await openNetwork('a'.repeat(16)), await openNetwork('b'.repeat(16))];
  expect(first.subnet).not.toBe(second.subnet);
  await first.close();
  await second.look();
  expect(second.working).toBe(true);
});

test('a subnet that the engine or the machine uses already is passed over', async () => {
  const wanted = (await openNetwork('a'.repeat(16))).subnet;
  await open.pop()?.close();
  await world.host.run('ip', ['route', 'add', wanted, 'dev', 'cable']);
  const second = (await openNetwork('a'.repeat(16))).subnet;
  expect(second).not.toBe(wanted);
  await open.pop()?.close();
  const other = await engine.docker.createNetwork({ Name: 'other', IPAM: { Config: [{ Subnet: second }] } });
  const third = (await openNetwork('a'.repeat(16))).subnet;
  expect([wanted, second]).not.toContain(third);
  await other.remove();
  await world.host.run('ip', ['route', 'del', wanted, 'dev', 'cable']);
});

test('a machine that forwards nothing does not get one, and nothing is left of the attempt', async () => {
  await world.host.run('sh', ['-c', 'echo 0 > /proc/sys/net/ipv4/ip_forward']);
  try {
    await expect(openNetwork('a'.repeat(16))).rejects.toThrow(/forwards nothing.*sysctl/);
  } finally {
    await world.host.run('sh', ['-c', 'echo 1 > /proc/sys/net/ipv4/ip_forward']);
  }
  expect(await networks()).toEqual([]);
  expect(await tables()).toBe('');
});

test('a rule that somebody changes or removes is put back, and what sandboxes reach stays', async () => {
  const network = await openNetwork('a'.repeat(16));
  const place = network.take();
  await place.setHosts([]);
  const table = 'lambda_aaaaaaaa';
  const elements = async () => await world.host.run('nft', ['list', 'set', 'inet', table, 'open']);
  const before = await elements();
  expect(before).toContain('elements = {');
  const damages: readonly (readonly string[])[] = [
    ['flush', 'chain', 'inet', table, 'to_world'],
    ['flush', 'chain', 'inet', table, 'input'],
    ['insert', 'rule', 'inet', table, 'to_world', 'accept'],
    ['add', 'chain', 'inet', table, 'forward', '{ policy drop; }'],
    ['delete', 'element', 'inet', table, 'blocked', '{ 10.0.0.0/8 }'],
    ['delete', 'table', 'inet', table],
    ['flush', 'ruleset'],
  ];
  const rules = async () =>
    (await world.host.run('nft', ['list', 'table', 'inet', table])).replaceAll(/ expires \S+/g, '');
  const intact = await rules();
  for (const damage of damages) {
    await world.host.run('nft', damage);
    await network.look();
    expect(network.working).toBe(true);
    expect(await rules()).toBe(intact);
  }
  // And nothing is done where nothing is wrong: handles tell.
  const handles = () => world.host.run('nft', ['-a', 'list', 'table', 'inet', table]);
  const untouched = await handles();
  await network.look();
  expect(await handles()).toBe(untouched);
  await place.leave();
  expect(await elements()).not.toContain('elements = {');
});

test('a sandbox is allowed at most 256 addresses at a time, the newest, and none that is private', async () => {
  const subnet = { cidr: '198.18.0.0/22', gateway: '198.18.0.1' };
  const firewall = new Firewall(world.host, { table: 'lambda_test', bridge: 'cable', subnet, namePort: 1 });
  await firewall.install(() => '');
  try {
    const sandbox = new EgressSandbox(firewall, '198.18.0.9', 1);
    await sandbox.setHosts(['many.example']);
    const all = Array.from({ length: 300 }, (_, index) => `9.9.${index >> 8}.${index & 255}`);
    for (let from = 0; from < all.length; from += 16) await sandbox.allow(all.slice(from, from + 16), 60);
    const allowed = async () => {
      const listing = await world.host.run('nft', ['list', 'set', 'inet', 'lambda_test', 'allowed']);
      return [...listing.matchAll(/198\.18\.0\.9 \. (\S+) timeout (\S+)/g)];
    };
    const pairs = await allowed();
    expect(pairs.map(([, address]) => address).sort()).toEqual(all.slice(-256).sort());
    expect(new Set(pairs.map(([, , timeout]) => timeout))).toEqual(new Set(['2m']));
    await expect(sandbox.allow(['10.0.0.1'], 60)).rejects.toThrow('not public');
    await sandbox.end();
    expect(await allowed()).toEqual([]);
    await sandbox.allow(['9.9.9.9'], 60);
    expect(await allowed()).toEqual([]);
  } finally {
    await firewall.remove();
  }
});

test('addresses come back to the end of the line', async () => {
  const network = await openNetwork('a'.repeat(16));
  const addressOf = async () => {
    const place = network.take();
    const directory = await mkdtemp(join(tmpdir(), 'place-'));
    const { address } = await place.prepare(directory);
    await rm(directory, { recursive: true });
    await place.leave();
    return address;
  };
  expect(await addressOf()).not.toBe(await addressOf());
});

describe('a driver', () => {
  test('whose bridge disappears offers no egress and ends the sandboxes that had it; others go on', async () => {
    const node = await HostUnderTest.open(
      'docker',
      { memoryMb: 2048, slots: 8 },
      { dockerHost: engine.host, egress: {} },
    );
    try {
      const code = 'export const handler = async (event) => event;';
      const networked = await node.deploy(code, { network: 'egress', keepRunning: true });
      const plain = await node.deploy(code);
      await node.call(networked);
      await node.call(plain);
      const [bridge = ''] = await networks();
      let changes = 0;
      node.host.onOfferChange(() => {
        changes += 1;
      });
      await world.host.run('ip', ['link', 'delete', bridge]);
      await expect.poll(() => node.host.driver.networks, { timeout: 15_000 }).toEqual(['none']);
      expect(changes).toBe(1);
      const alive = () => node.host.runner.capacity().versions.map(({ versionId }) => versionId);
      await expect.poll(alive, { timeout: 10_000 }).toEqual([plain.versionId]);
      expect(await node.tryCall(networked)).toMatchObject({
        detail: expect.stringContaining('no network of the kind egress'),
      });
      expect((await node.call(plain, { event: 1 })).text).toBe('1');
    } finally {
      await node.close();
    }
  });

  test('with gVisor but without a runtime for gVisor with a network offers no egress', async () => {
    const runtimeArgs = ['--platform=ptrace', '--network=none', '--fsgofer-host-uds'];
    const other = await EngineOfItsOwn.start({ runsc: { path: '/usr/bin/runsc', runtimeArgs } });
    try {
      const driver = await DockerDriver.open({
        nodeId: 'n',
        owner: 'c'.repeat(16),
        dockerHost: other.host,
        log,
        egress: {},
      });
      expect(driver.isolation).toEqual(['runc', 'gvisor']);
      expect(driver.networks).toEqual(['none']);
      await driver.close();
    } finally {
      await other.stop();
    }
  });

  test('treats an engine in a virtual machine as one whose firewall is out of reach', async () => {
    const options = { nodeId: 'n', owner: 'c'.repeat(16), dockerHost: engine.host, log, egress: {} };
    const driver = await DockerDriver.open({ ...options, sharesKernel: false });
    expect(driver.networks).toEqual(['none']);
    expect(await networks()).toEqual([]);
  });
});
