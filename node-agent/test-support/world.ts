import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { NetworkNamespace } from '../src/drivers/docker/egress/network-namespace.js';

/** Public, as far as a test is concerned: TEST-NET-3. */
export const PUBLIC = ['203.0.113.10', '203.0.113.11', '203.0.113.12'] as const;
/** What is beyond the machine as well, and must not be reached: metadata, private and shared networks, reserved ones. */
export const FORBIDDEN = [
  ...['169.254.169.254', '169.254.1.1', '10.1.2.3', '172.20.0.5', '192.168.7.7', '100.64.1.1', '100.100.100.200'],
  ...['192.0.0.192', '168.63.129.16', '192.88.99.1', '198.19.77.1', '240.0.0.9'],
] as const;
/** The machine's own addresses, besides that on the bridge. */
export const OF_HOST = ['203.0.113.254', '203.0.113.200', '10.77.0.1'] as const;
const ROUTER = '203.0.113.253';
/** Where everybody listens: the first for HTTP, the others as the engine and some service of the machine do. */
export const PORTS = [80, 2375, 9_000] as const;

/** Answers HTTP on the ports with the address that was reached, and datagrams on port 53 and 9000 of each address. */
const SERVER = `
const net = require('node:net'), dgram = require('node:dgram');
const [ports, addresses] = JSON.parse(process.argv[1]);
let waiting = ports.length + 2 * addresses.length;
const ready = () => { if (--waiting === 0) console.log('ready'); };
for (const port of ports) {
  net.createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', () => socket.end('HTTP/1.1 200 OK\\r\\nconnection: close\\r\\n\\r\\nhello from ' + socket.localAddress));
  }).listen(port, '0.0.0.0', ready);
}
// Bound to each address: an answer from another one is no answer.
for (const port of [53, 9000]) for (const address of addresses) {
  const socket = dgram.createSocket('udp4');
  socket.on('message', (bytes, from) => socket.send('echo', from.port, from.address));
  socket.bind(port, address, ready);
}
`;

/**
 * What is around an engine of one's own: a machine's addresses in the engine's network namespace, and behind a
 * cable another namespace with everything that is out there. Both answer.
 */
export class World {
  private constructor(
    /** The engine's. */
    readonly host: NetworkNamespace,
    readonly outside: NetworkNamespace,
    private readonly children: readonly ChildProcess[],
  ) {}

  static async around(enginePid: number): Promise<World> {
    const holder = await started('unshare', ['-n', 'sh', '-c', 'echo ready; exec sleep infinity']);
    const host = await NetworkNamespace.ofProcess(enginePid);
    const outside = await NetworkNamespace.ofProcess(holder.pid ?? 0);
    const ip = (namespace: NetworkNamespace, lines: readonly string[]) =>
      namespace.run('ip', ['-batch', '-'], lines.join('\n'));
    await ip(host, [
      'link set lo up',
      `link add cable type veth peer name cable netns ${holder.pid}`,
      `address add ${OF_HOST[0]}/30 dev cable`,
      'link set cable up',
      ...OF_HOST.slice(1).map((address) => `address add ${address}/32 dev lo`),
      `route add default via ${ROUTER}`,
    ]);
    await ip(outside, [
      'link set lo up',
      `address add ${ROUTER}/30 dev cable`,
      'link set cable up',
      ...[...PUBLIC, ...FORBIDDEN].map((address) => `address add ${address}/32 dev lo`),
      // Also for what comes unmasked, as it does without a firewall.
      `route add default via ${OF_HOST[0]}`,
    ]);
    const serve = (pid: number | undefined, addresses: readonly string[]) => {
      const program = [process.execPath, '-e', SERVER, JSON.stringify([PORTS, addresses])];
      return started('nsenter', [`--net=/proc/${pid}/ns/net`, ...program]);
    };
    const servers = [await serve(enginePid, OF_HOST), await serve(holder.pid, [...PUBLIC, ...FORBIDDEN])];
    return new World(host, outside, [holder, ...servers]);
  }

  async end(): Promise<void> {
    for (const child of this.children) {
      const ended = once(child, 'exit');
      child.kill('SIGKILL');
      await ended;
    }
    await this.host.close();
    await this.outside.close();
  }
}

/** A child that has said that it is ready, and ends with this process. */
async function started(command: string, args: readonly string[]): Promise<ChildProcess> {
  const child = spawn('setpriv', ['--pdeathsig=KILL', command, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  for await (const line of createInterface({ input: child.stdout })) if (line === 'ready') return child;
  throw new Error(`${command} ended before it was ready`);
}
