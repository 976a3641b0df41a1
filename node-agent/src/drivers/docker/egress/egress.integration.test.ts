import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { VersionSpec } from '@lambda-fleet/proto';
import { encode, RECURSION_DESIRED } from 'dns-packet';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { EngineOfItsOwn } from '../../../../test-support/engine-of-its-own.js';
import { HostUnderTest } from '../../../../test-support/host-under-test.js';
import { UpstreamNameServer } from '../../../../test-support/upstream-name-server.js';
import { FORBIDDEN, OF_HOST, PORTS, PUBLIC, World } from '../../../../test-support/world.js';
import { startConversation } from '../../../channel/start-conversation.js';
import { SandboxPlaces } from '../../../sandboxes/sandbox-directories.js';

/** Does what it is asked to in its sandbox, and says what came of it. */
const PROBE = `
import dgram from 'node:dgram';
import dns from 'node:dns/promises';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
const outcome = (work) => work.catch((err) => err.cause?.code ?? err.code ?? err.message);
const dial = ({ host, port }) => new Promise((resolve) => {
  const socket = net.connect({ host, port, timeout: 1500 }, () => { resolve('connected'); socket.destroy(); });
  socket.on('error', (err) => resolve(err.code));
  socket.on('timeout', () => { resolve('timeout'); socket.destroy(); });
});
const send = ({ host, port, text }) => new Promise((resolve) => {
  const socket = dgram.createSocket('udp4');
  const end = (what) => { clearTimeout(timer); socket.close(); resolve(what); };
  const timer = setTimeout(() => end('nothing'), 700);
  socket.on('error', (err) => end(err.code));
  socket.on('message', (bytes) => end(bytes.toString('latin1')));
  socket.send(Buffer.from(text ?? 'hello', 'latin1'), port, host);
});
let held = [];
const probes = {
  dial: ({ targets }) => Promise.all(targets.map(dial)),
  send: ({ targets }) => Promise.all(targets.map(send)),
  fetch: ({ url }) => outcome(fetch(url).then((response) => response.text())),
  lookup: ({ name }) => outcome(dns.lookup(name).then(({ address }) => address)),
  addresses: ({ name }) => outcome(dns.resolve4(name)),
  addresses6: ({ name }) => outcome(dns.resolve6(name)),
  texts: ({ name }) => outcome(dns.resolveTxt(name)),
  interfaces: () => os.networkInterfaces(),
  resolvers: () => fs.readFileSync('/etc/resolv.conf', 'utf8'),
  // Opens connections one after the other until one fails, and keeps them.
  hoard: async ({ host, port, count }) => {
    for (let opened = 0; opened < count; opened++) {
      const socket = net.connect({ host, port });
      const failure = await new Promise((resolve) => { socket.on('connect', () => resolve()); socket.on('error', resolve); });
      if (failure) return opened;
      held.push(socket);
    }
    return count;
  },
  release: () => { for (const socket of held) socket.destroy(); held = []; },
  // Opens a connection and keeps it; says later, when it is used, what comes over it.
  hold: ({ host, port }) => new Promise((resolve) => {
    const socket = net.connect({ host, port }, () => resolve('connected'));
    socket.on('error', (err) => resolve(err.code));
    held.push(socket);
  }),
  use: () => new Promise((resolve) => {
    const [socket] = held.splice(0);
    socket.removeAllListeners('error');
    socket.on('error', (err) => resolve(err.code));
    socket.setTimeout(1500, () => resolve('timeout'));
    socket.once('data', (bytes) => resolve(bytes.toString().split('\\r\\n').at(-1)));
    socket.write('hello');
  }),
  listen: ({ port }) => new Promise((resolve) => {
    const server = net.createServer((socket) => socket.on('error', () => {}));
    server.listen(port, '0.0.0.0', () => resolve(os.networkInterfaces().eth0[0].address));
  }),
  flood: async ({ host, port, text, count }) => {
    const socket = dgram.createSocket('udp4');
    let answers = 0;
    socket.on('message', () => { answers += 1; });
    socket.on('error', () => {});
    for (let sent = 0; sent < count; sent++) socket.send(Buffer.from(text, 'latin1'), port, host);
    await new Promise((resolve) => setTimeout(resolve, 1500));
    socket.close();
    return answers;
  },
};
export const handler = ({ probe, ...args }) => probes[probe](args);
`;

const [OPEN, LISTED, UNLISTED] = PUBLIC;
/** What an attempt to reach something that must not be reached ends with: at once, and never with a connection. */
const REFUSED = /^(ECONNREFUSED|EHOSTUNREACH|ENETUNREACH|EACCES|EADDRNOTAVAIL|EINVAL)$/;

let engine: EngineOfItsOwn;
let world: World;
let names: UpstreamNameServer;
let node: HostUnderTest;
let bridge: string;

beforeAll(async () => {
  engine = await EngineOfItsOwn.start();
  await engine.copyImages('lambda-fleet/runtime-nodejs:current');
  world = await World.around(await engine.pid());
  names = await UpstreamNameServer.listen();
  node = await HostUnderTest.open(
    'docker',
    { memoryMb: 4096, slots: 16 },
    { dockerHost: engine.host, egress: { nameServers: [names.address], verifyIntervalMs: 2_000 } },
  );
  const networks = await engine.docker.listNetworks({ filters: { label: ['lambda.owner'] } });
  bridge = networks[0]?.Name ?? '';
});
afterAll(async () => {
  await node?.close();
  names?.close();
  await world?.end();
  await engine?.stop();
});

beforeEach(() => {
  names.addresses.clear();
  names.texts.clear();
  names.asked.length = 0;
  names.addresses.set('open.example', { data: [OPEN], ttl: 60 });
  names.addresses.set('listed.example', { data: [LISTED], ttl: 60 });
  names.addresses.set('unlisted.example', { data: [UNLISTED], ttl: 60 });
});

test('an engine in another network namespace, and gVisor with a network, let the node offer egress', () => {
  expect(node.host.driver.networks).toEqual(['none', 'egress']);
  expect(node.host.driver.isolation).toEqual(['runc', 'gvisor']);
});

describe.each(['runc', 'gvisor'] as const)('with %s', (isolation) => {
  const deploy = (egressHosts: string[] = []) =>
    node.deploy(PROBE, { memoryMb: 192, network: 'egress', egressHosts, timeoutMs: 20_000 });

  async function probe<T>(spec: VersionSpec, name: string, args: object = {}): Promise<T> {
    const end = await node.call(spec, { event: { probe: name, ...args }, isolation });
    if (end.error !== undefined) throw new Error(`${end.error.errorType}: ${end.error.errorMessage}`);
    return (end.text === '' ? undefined : JSON.parse(end.text)) as T;
  }

  const dial = (spec: VersionSpec, hosts: readonly string[], ports: readonly number[] = [80]) =>
    probe<string[]>(spec, 'dial', { targets: hosts.flatMap((host) => ports.map((port) => ({ host, port }))) });
  const send = (spec: VersionSpec, hosts: readonly string[], port: number) =>
    probe<string[]>(spec, 'send', { targets: hosts.map((host) => ({ host, port })) });
  const gatewayOf = async (spec: VersionSpec) =>
    /^nameserver (\S+)$/m.exec(await probe<string>(spec, 'resolvers'))?.[1] ?? '';
  const all = <T>(what: T, hosts: readonly unknown[]) => hosts.map(() => what);

  test('a function reaches public addresses, by address and by name', async () => {
    const spec = await deploy();
    expect(await probe(spec, 'fetch', { url: `http://${OPEN}/` })).toBe(`hello from ${OPEN}`);
    expect(await probe(spec, 'fetch', { url: 'http://open.example/' })).toBe(`hello from ${OPEN}`);
    expect(await send(spec, PUBLIC, 53)).toEqual(all('echo', PUBLIC));
    expect(await dial(spec, PUBLIC)).toEqual(all('connected', PUBLIC));
    expect(Object.keys(await probe(spec, 'interfaces')).sort()).toEqual(['eth0', 'lo']);
  });

  test('the host, its networks, metadata and everything reserved are refused; without the rules they are reached', async () => {
    const spec = await deploy();
    const gateway = await gatewayOf(spec);
    const host = [gateway, ...OF_HOST];
    const mapped = FORBIDDEN.slice(0, 3).map((address) => `::ffff:${address}`);
    const refused = async () => ({
      forbidden: await dial(spec, FORBIDDEN),
      mapped: await dial(spec, mapped),
      host: await dial(spec, host, PORTS),
      datagrams: await send(spec, [...FORBIDDEN, ...OF_HOST], 9_000),
      names: await send(spec, OF_HOST, 53),
    });
    const inside = await refused();
    for (const outcomes of Object.values(inside)) {
      for (const outcome of outcomes) expect(outcome).not.toMatch(/^(connected|echo)$/);
    }
    // Nothing of these exists for a sandbox.
    for (const outcome of await dial(spec, ['fd00:ec2::254', 'fe80::1', '::1', '127.0.0.1']))
      expect(outcome).toMatch(REFUSED);

    await world.host.run('nft', ['flush', 'ruleset']);
    expect(await refused()).toEqual({
      forbidden: all('connected', FORBIDDEN),
      mapped: all('connected', mapped),
      host: host.flatMap(() => all('connected', PORTS)),
      datagrams: all('echo', [...FORBIDDEN, ...OF_HOST]),
      names: all('echo', OF_HOST),
    });
    // Somebody notices, and what was reached is refused again while the rest still works.
    await expect
      .poll(async () => (await dial(spec, [OF_HOST[0]]))[0], { timeout: 15_000, interval: 200 })
      .toMatch(REFUSED);
    expect(await refused()).toEqual(inside);
    expect(await dial(spec, PUBLIC)).toEqual(all('connected', PUBLIC));
  });

  test('what the machine redirects from its own address to another place is refused too', async () => {
    const spec = await deploy();
    const redirection = `ip daddr ${OF_HOST[0]} tcp dport 8080 dnat to ${OPEN}:80`;
    const chain = `type nat hook prerouting priority dstnat\n${redirection}`;
    await world.host.run('nft', ['-f', '-'], `table ip redirecting {\nchain to {\n${chain}\n}\n}\n`);
    try {
      expect((await dial(spec, [OF_HOST[0]], [8_080]))[0]).not.toBe('connected');
      expect((await dial(spec, [OPEN]))[0]).toBe('connected');
      // Soon somebody will put the rule back, so at most a few times.
      const withoutTheRule = async () => {
        const rules = await world.host.run('nft', ['-a', 'list', 'chain', 'inet', tableName(), 'to_world']);
        const handle = /ct status dnat.*# handle (\d+)/.exec(rules)?.[1] ?? '';
        await world.host.run('nft', ['delete', 'rule', 'inet', tableName(), 'to_world', 'handle', handle]);
        return (await dial(spec, [OF_HOST[0]], [8_080]))[0];
      };
      await expect.poll(withoutTheRule, { timeout: 15_000, interval: 200 }).toBe('connected');
    } finally {
      await world.host.run('nft', ['delete', 'table', 'ip', 'redirecting']);
    }
  });

  test('a sandbox whose function is not known yet reaches nothing, and then what its function may', async () => {
    const place = await mkdtemp('/var/tmp/egress-');
    const places = new SandboxPlaces(join(place, 'sandboxes'), join(place, 'sockets'));
    await places.clear();
    const directories = await places.make('blank');
    const nonce = 'a'.repeat(32);
    const instance = await node.host.driver.start({
      ...({ id: `blank-${isolation}`, runtime: 'nodejs', isolation, network: 'egress', nonce } as const),
      ...{ limits: { memoryMb: 192, cpus: 1 }, heapMemoryMb: 192 },
      ...directories,
    });
    try {
      await writeFile(join(directories.taskDir, 'index.mjs'), PROBE);
      const stream = await instance.channel;
      const conversation = startConversation({ runtime: 'nodejs', stream, nonce, taskRoot: '/var/task' });
      conversation.listen({ wantsLog: () => false, log: () => false, closed: () => instance.channelClosed() });
      await conversation.hello;
      const fixed = {
        functionName: 'f',
        functionVersion: '1',
        functionArn: '',
        environment: {},
        logGroup: '',
        logStream: '',
      };
      const settings = { memoryMb: 192, timeoutMs: 20_000, concurrency: 1, realm: '' };
      await conversation.init({ handler: 'index.handler', ...fixed, ...settings });
      let calls = 0;
      const ask = async (event: object) => {
        calls += 1;
        const message = {
          id: `${calls}`,
          deadlineMs: Date.now() + 20_000,
          arn: '',
          traceId: '',
          clientContext: '',
          http: false,
        };
        const result = await conversation.invoke(message, Buffer.from(JSON.stringify(event)), () => {});
        return result.kind === 'response'
          ? (JSON.parse(result.body.toString()) as string[])
          : result.error.errorMessage;
      };
      const targets = PUBLIC.map((host) => ({ host, port: 80 }));
      for (const outcome of await ask({ probe: 'dial', targets })) expect(outcome).toMatch(REFUSED);
      expect(await ask({ probe: 'lookup', name: 'open.example' })).toMatch(/^(EAI_AGAIN|ENOTFOUND)$/);
      expect(names.asked).toEqual([]);

      await instance.setEgressHosts([]);
      expect(await ask({ probe: 'dial', targets })).toEqual(all('connected', PUBLIC));
      await instance.setEgressHosts(['listed.example']);
      expect(await ask({ probe: 'lookup', name: 'listed.example' })).toBe(LISTED);
      const [open, listed, unlisted] = await ask({ probe: 'dial', targets });
      expect(listed).toBe('connected');
      for (const outcome of [open, unlisted]) expect(outcome).toMatch(REFUSED);
    } finally {
      await instance.stop();
      await rm(place, { recursive: true });
    }
  });

  test('with a list a function reaches these hosts and nothing else', async () => {
    const spec = await deploy(['listed.example', OPEN]);
    // Before it has asked for the name, it cannot know the address.
    expect((await dial(spec, [LISTED]))[0]).toMatch(REFUSED);
    expect(await probe(spec, 'fetch', { url: 'http://listed.example/' })).toBe(`hello from ${LISTED}`);
    expect(await probe(spec, 'lookup', { name: 'LISTED.example' })).toBe(LISTED);
    expect(await dial(spec, [LISTED, OPEN])).toEqual(['connected', 'connected']);
    expect((await dial(spec, [UNLISTED]))[0]).toMatch(REFUSED);
    expect(await send(spec, [LISTED, UNLISTED], 9_000)).toEqual(['echo', 'nothing']);
    expect(await probe(spec, 'fetch', { url: 'http://unlisted.example/' })).toBe('ENOTFOUND');
    // A sandbox of another function is not helped by that.
    expect((await dial(await deploy(['unlisted.example']), [LISTED]))[0]).toMatch(REFUSED);
  });

  test('with a list no question about another name, or for other records, leaves the machine', async () => {
    const spec = await deploy(['listed.example']);
    names.texts.set('listed.example', 'a text');
    names.addresses.set('data.listed.example', { data: [LISTED], ttl: 60 });
    expect(await probe(spec, 'lookup', { name: 'data.listed.example' })).toBe('ENOTFOUND');
    expect(await probe(spec, 'lookup', { name: 'unlisted.example' })).toBe('ENOTFOUND');
    expect(await probe(spec, 'texts', { name: 'listed.example' })).toBe('ENODATA');
    expect(await probe(spec, 'addresses6', { name: 'listed.example' })).toBe('ENODATA');
    expect(names.asked).toEqual([]);
    // Nor past the name server: to that of the engine in its own loopback, to one of the machine or of the world.
    const question = query('data.listed.example');
    for (const host of ['127.0.0.11', OF_HOST[0], OPEN])
      await probe(spec, 'send', { targets: [{ host, port: 53, text: question }] });
    expect(names.asked).toEqual([]);
    // Without a list they are asked.
    const open = await deploy();
    expect(await probe(open, 'texts', { name: 'listed.example' })).toEqual([['a text']]);
    await probe(open, 'send', { targets: [{ host: '127.0.0.11', port: 53, text: question }] });
    // The engine's name server does not exist under gVisor.
    expect(names.asked).toEqual(
      isolation === 'runc' ? ['TXT listed.example', 'A data.listed.example'] : ['TXT listed.example'],
    );
  });

  test('a name that leads to a private address leads nowhere, with a list and without', async () => {
    names.addresses.set('rebound.example', { data: ['169.254.169.254'], ttl: 1 });
    names.addresses.set('mixed.example', { data: ['10.1.2.3', OF_HOST[2], LISTED], ttl: 1 });
    for (const spec of [await deploy(['rebound.example', 'mixed.example']), await deploy()]) {
      expect(await probe(spec, 'lookup', { name: 'rebound.example' })).toMatch(/^(ENOTFOUND|ENODATA|EAI_NODATA)$/);
      expect(await probe(spec, 'addresses', { name: 'rebound.example' })).toBe('ENODATA');
      expect(await probe(spec, 'addresses', { name: 'mixed.example' })).toEqual([LISTED]);
      for (const outcome of await dial(spec, ['169.254.169.254', '10.1.2.3', OF_HOST[2]]))
        expect(outcome).toMatch(REFUSED);
      expect((await dial(spec, [LISTED]))[0]).toBe('connected');
    }
  });

  test('a connection goes on when its address is not allowed any more, and is nobody else’s', async () => {
    const spec = await deploy(['listed.example']);
    const address = await probe<string>(spec, 'lookup', { name: 'listed.example' });
    const own = (await probe<Record<string, { address: string }[]>>(spec, 'interfaces')).eth0?.[0]?.address ?? '';
    const table = tableName();
    const change = (...commands: string[]) => world.host.run('nft', ['-f', '-'], `${commands.join('\n')}\n`);
    const element = (verb: string, set: string, text: string) => `${verb} element inet ${table} ${set} { ${text} }`;

    for (const taken of [false, true]) {
      expect(await probe(spec, 'hold', { host: address, port: 80 })).toBe('connected');
      await change(element('delete', 'allowed', `${own} . ${address}`));
      expect((await dial(spec, [address]))[0]).toMatch(REFUSED);
      if (taken) {
        // As when another sandbox has the address.
        const current = await world.host.run('nft', ['list', 'map', 'inet', table, 'generation']);
        const generation = new RegExp(`${own} : (0x[0-9a-f]+)`).exec(current)?.[1] ?? '';
        await change(
          element('delete', 'generation', `${own} : ${generation}`),
          element('delete', 'current', `${own} . ${generation}`),
          element('add', 'generation', `${own} : 0x7fffffff`),
          element('add', 'current', `${own} . 0x7fffffff`),
        );
      }
      expect(await probe(spec, 'use')).toEqual(
        taken ? expect.stringMatching(/^(ECONNRESET|ECONNREFUSED|timeout)$/) : `hello from ${address}`,
      );
      await change(element('add', 'allowed', `${own} . ${address} timeout 60s`));
    }
  });

  test('neighbours do not reach each other; without the rules they do', { timeout: 180_000 }, async () => {
    const listener = await node.deploy(PROBE, { memoryMb: 192, network: 'egress', egressHosts: [], keepRunning: true });
    const address = await probe<string>(listener, 'listen', { port: 9_000 });
    const spec = await deploy();
    const reach = async () => (await dial(spec, [address], [9_000]))[0];
    expect(await reach()).not.toBe('connected');
    // The ports of the bridge alone keep them apart.
    await world.host.run('nft', ['flush', 'ruleset']);
    expect(await reach()).not.toBe('connected');
    const ports = (await world.host.links('master', bridge)).map(({ ifname }) => ifname);
    const withNothing = async () => {
      const lines = ports.map((port) => `link set dev ${port} type bridge_slave isolated off`);
      await world.host.run('ip', ['-batch', '-'], lines.join('\n'));
      await world.host.run('nft', ['flush', 'ruleset']);
      return reach();
    };
    // The agent puts the rules back meanwhile: on a busy machine it is mostly faster than the function that looks.
    await expect.poll(withNothing, { timeout: 90_000, interval: 200 }).toBe('connected');
    await expect.poll(reach, { timeout: 30_000, interval: 200 }).not.toBe('connected');
    const detailed = await world.host.run('ip', ['-j', '-d', 'link', 'show', 'master', bridge]);
    expect([...detailed.matchAll(/"isolated":(\w+)/g)].map(([, value]) => value)).toEqual(all('true', ports));
  });

  test('nobody has more than 512 connections, and others have theirs', async () => {
    const [hoarder, other] = [await deploy(), await deploy()];
    const opened = await probe<number>(hoarder, 'hoard', { host: OPEN, port: 9_000, count: 600 });
    expect(opened).toBeGreaterThan(400);
    expect(opened).toBeLessThanOrEqual(512);
    expect((await dial(other, [OPEN]))[0]).toBe('connected');
    await probe(hoarder, 'release');
  });

  test('a flood of questions is cut where it begins', async () => {
    const spec = await deploy();
    const gateway = await gatewayOf(spec);
    const flood = { host: gateway, port: 53, text: query('open.example'), count: 2_000 };
    expect(await probe<number>(spec, 'flood', flood)).toBeLessThan(400);
    expect(names.asked.length).toBeLessThan(400);
    await expect.poll(() => probe(spec, 'lookup', { name: 'open.example' })).toBe(OPEN);
  });
});

/** As the node under test names its own. */
const tableName = () => bridge.replace('-', '_');

/** A question as it travels, one character for each byte. */
function query(name: string): string {
  return encode({ type: 'query', id: 1, flags: RECURSION_DESIRED, questions: [{ type: 'A', name }] }).toString(
    'latin1',
  );
}
