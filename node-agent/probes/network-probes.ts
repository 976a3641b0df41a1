import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { networkInterfaces } from 'node:os';
import type { ContainerCreateOptions } from 'dockerode';
import type { Ground } from './ground.js';
import { type Probe, withHostConfig } from './probe.js';

/** What the watcher's own network has of a host's; see `host_watcher.py`. */
const ABSTRACT_NAME = 'lambda-probes';
type Address = readonly [kind: 'tcp' | 'udp' | 'abstract', host: string, port: number];

const withoutDefence = {
  removed: 'a network namespace of its own: it has that of a stand-in for the host',
  isolations: ['runc'],
  alter: joinStandIn,
} as const;

export const networkProbes: readonly Probe[] = [
  {
    name: 'a cloud’s metadata cannot be reached',
    area: 'network',
    attempt: 'connects to 169.254.169.254',
    judge: 'whoever listens there, in the host’s place, sees nobody',
    run: (ground) => reached(ground, [['tcp', '169.254.169.254', 80]]),
    withoutDefence,
  },
  {
    name: 'the host’s loopback and abstract sockets cannot be reached',
    area: 'network',
    attempt:
      'connects to ports that are open on loopback, on every address of the host, and to an abstract socket of the host',
    judge: 'neither these ports nor the socket see anybody',
    async run(ground) {
      const seen: string[] = [];
      const server = createServer((socket) => {
        seen.push(`${socket.remoteAddress} came`);
        socket.on('error', () => {}).destroy();
      }).listen(0, '0.0.0.0');
      await once(server, 'listening');
      try {
        const { port } = server.address() as AddressInfo;
        const own = Object.values(networkInterfaces()).flatMap((all) => all ?? []);
        const hosts = own.filter(({ family }) => family === 'IPv4').map(({ address }) => address);
        return [
          ...(await reached(ground, [
            ...['127.0.0.1', ...hosts].map((host): Address => ['tcp', host, port]),
            ['tcp', '127.0.0.1', 80],
            ['abstract', ABSTRACT_NAME, 0],
          ])),
          ...seen,
        ];
      } finally {
        server.close();
      }
    },
    withoutDefence,
  },
  {
    name: 'the engine’s bridge cannot be reached',
    area: 'network',
    attempt: 'connects to the bridge’s own address and to neighbours on it',
    judge: 'whoever listens there, in the host’s place, sees nobody',
    run: (ground) =>
      reached(ground, [
        ['tcp', '172.17.0.1', 80],
        ['tcp', '172.17.0.2', 80],
      ]),
    withoutDefence,
  },
  {
    name: 'no name server can be asked',
    area: 'network',
    attempt: 'resolves names, and asks a name server itself over both protocols',
    judge: 'the name server sees no question',
    async run(ground) {
      // Which waits ten seconds for the answer of the stand-in.
      if (!ground.unprotected) await ground.attempt('network.resolve', { name: 'planted.example' });
      return reached(ground, [
        ['udp', '10.0.0.53', 53],
        ['tcp', '10.0.0.53', 53],
      ]);
    },
    withoutDefence,
  },
  {
    name: 'another sandbox cannot be reached',
    area: 'network',
    attempt: 'connects to a port and an abstract socket on which another function listens in its own sandbox',
    judge: 'that function hears nobody',
    async run(ground) {
      const port = 40_000;
      const listener = await ground.deployHostile({ keepRunning: true });
      await ground.attemptIn(listener, 'network.listen', { port, name: 'planted' });
      const dialler = await ground.deployHostile();
      await ground.attemptIn(dialler, 'network.dial', {
        addresses: [
          ['tcp', '127.0.0.1', port],
          ['abstract', 'planted', 0],
        ],
      });
      const { said } = await ground.attemptIn(listener, 'network.heard');
      return said as string[];
    },
    withoutDefence,
  },
];

async function reached(ground: Ground, addresses: readonly Address[]): Promise<readonly string[]> {
  await ground.host.hits();
  await ground.attempt('network.dial', { addresses });
  return (await ground.host.hits()).map((hit) => `${hit} was reached`);
}

function joinStandIn(spec: ContainerCreateOptions, ground: Ground): ContainerCreateOptions {
  return withHostConfig({ ...spec, NetworkDisabled: false }, { NetworkMode: ground.host.networkMode });
}
