import { createServer, type Server } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { freePort, takenPorts } from './ports.js';

const servers: Server[] = [];
afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => new Promise((closed) => server.close(closed))));
});

async function listen(host: string): Promise<{ port: number; server: Server }> {
  const server = createServer();
  const port = await freePort(host);
  await new Promise<void>((ready) => server.listen(port, host, ready));
  servers.push(server);
  return { port, server };
}

describe('the ports check', () => {
  it('finds nothing wrong with free ports', async () => {
    expect(await takenPorts([{ port: await freePort('127.0.0.1'), host: '127.0.0.1', flag: '--x' }], 0)).toEqual([]);
  });

  it('names the port that is taken and, on Linux, who has it', async () => {
    const { port } = await listen('127.0.0.1');
    const free = { port: await freePort('127.0.0.1'), host: '127.0.0.1', flag: '--grpc-port' };
    const taken = await takenPorts([{ port, host: '127.0.0.1', flag: '--http-port' }, free], 0);
    expect(taken).toHaveLength(1);
    expect(taken[0]).toMatchObject({ need: { port, flag: '--http-port' }, problem: undefined });
    if (process.platform === 'linux') expect(taken[0]?.who).toMatch(new RegExp(`^pid ${process.pid} \\(.+\\)$`));
  });

  it('says what is wrong with an address that this machine does not have', async () => {
    const [taken] = await takenPorts([{ port: 18_080, host: '192.0.2.1', flag: '--http-port' }], 0);
    expect(taken?.problem).toBe('EADDRNOTAVAIL');
  });

  it('waits for a port that is being given up', async () => {
    const { port, server } = await listen('127.0.0.1');
    servers.length = 0;
    const check = takenPorts([{ port, host: '127.0.0.1', flag: '--x' }], 10_000);
    setImmediate(() => server.close());
    expect(await check).toEqual([]);
  });
});
