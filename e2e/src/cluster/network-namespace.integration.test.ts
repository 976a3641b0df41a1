import { execFile } from 'node:child_process';
import { createServer, type Server } from 'node:net';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { NetworkNamespace } from './network-namespace.js';

const run = promisify(execFile);

let namespace: NetworkNamespace;
let server: Server;
let port = 0;

beforeEach(async () => {
  namespace = await NetworkNamespace.make();
  server = createServer((socket) => socket.on('error', () => undefined).end('here'));
  await new Promise<void>((resolve) => server.listen(0, namespace.hostAddress, resolve));
  const address = server.address();
  port = typeof address === 'object' && address !== null ? address.port : 0;
});

afterEach(async () => {
  server.close();
  await namespace.remove();
});

/** What a program inside gets from this machine. */
async function reached(): Promise<string> {
  const script = `const s = require('net').connect({ host: '${namespace.hostAddress}', port: ${port} });
    s.setTimeout(700, () => { console.log('silence'); s.destroy(); });
    s.on('data', (d) => { console.log(String(d)); s.destroy(); }).on('error', (e) => console.log(e.code));`;
  const [ip = '', ...rest] = namespace.command;
  return (await run(ip, [...rest, process.execPath, '-e', script])).stdout.trim();
}

describe('a network namespace whose cable is cut', () => {
  it('reaches this machine until then, nothing meanwhile, and this machine again once it is healed', async () => {
    expect(await reached()).toBe('here');
    for (const cut of ['all', 'to-agent', 'from-agent'] as const) {
      await namespace.cut(cut);
      expect(await reached(), cut).toBe('silence');
    }
    await namespace.cut('reset');
    expect(await reached()).toBe('ECONNREFUSED');
    await namespace.heal();
    expect(await reached()).toBe('here');
  });
});
