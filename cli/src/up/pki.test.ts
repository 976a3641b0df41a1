import { X509Certificate } from 'node:crypto';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect, createServer, type TLSSocket } from 'node:tls';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Pki, type TlsFiles } from './pki.js';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lambda-pki-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

async function load({ ca, cert, key }: TlsFiles) {
  const [caPem, certPem, keyPem] = await Promise.all([readFile(ca), readFile(cert), readFile(key)]);
  return { ca: caPem, cert: certPem, key: keyPem };
}

/** A handshake on loopback. Resolves with the client's name as the server sees it. */
async function handshake(
  serverFiles: TlsFiles,
  clientFiles: TlsFiles | undefined,
  host = 'localhost',
): Promise<string> {
  const server = createServer({ ...(await load(serverFiles)), requestCert: true, rejectUnauthorized: true });
  await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready));
  const client = clientFiles === undefined ? { ca: await readFile(serverFiles.ca) } : await load(clientFiles);
  try {
    return await new Promise<string>((settle, reject) => {
      server.once('secureConnection', (socket: TLSSocket) => {
        settle(String(socket.getPeerCertificate().subject.CN));
        socket.destroy();
      });
      server.once('tlsClientError', reject);
      const { port } = server.address() as AddressInfo;
      const socket = connect({ ...client, host: '127.0.0.1', port, servername: host === '127.0.0.1' ? '' : host });
      socket.once('error', reject);
    });
  } finally {
    await new Promise((closed) => server.close(closed));
  }
}

describe('the certificates of a fleet', () => {
  it("let an agent and the control plane know each other, by the node's id", async () => {
    const pki = new Pki(folder);
    const [controlPlane, node] = [await pki.controlPlane(), await pki.node('node-7')];
    expect(await handshake(controlPlane, node)).toBe('node-7');
    expect(await handshake(controlPlane, node, '127.0.0.1')).toBe('node-7');
  });

  it('shut out who has none, one of another fleet, or asks for another name', async () => {
    const pki = new Pki(folder);
    const [controlPlane, node] = [await pki.controlPlane(), await pki.node('node-1')];
    await expect(handshake(controlPlane, undefined)).rejects.toThrow();
    await expect(handshake(controlPlane, node, 'example.org')).rejects.toThrow(/example\.org|altnames/);
    const other = await mkdtemp(join(tmpdir(), 'lambda-pki-'));
    try {
      const stranger = await new Pki(other).node('node-1');
      await expect(handshake(controlPlane, { ...stranger, ca: node.ca })).rejects.toThrow();
      await expect(handshake(controlPlane, stranger)).rejects.toThrow();
    } finally {
      await rm(other, { recursive: true, force: true });
    }
  });

  it("do not let a node's certificate pass for the control plane's", async () => {
    const pki = new Pki(folder);
    const node = await pki.node('node-1');
    await expect(handshake(node, node)).rejects.toThrow();
  });

  it('keep their keys to their owner', async () => {
    const { key } = await new Pki(folder).node('node-1');
    for (const file of [key, join(folder, 'ca.key')]) expect((await stat(file)).mode & 0o777).toBe(0o600);
  });

  it('are used again by the next start', async () => {
    const first = await readFile((await new Pki(folder).node('node-1')).cert, 'utf8');
    expect(await readFile((await new Pki(folder).node('node-1')).cert, 'utf8')).toBe(first);
  });

  it('are made again for a node whose present one counts no more', async () => {
    const first = await readFile((await new Pki(folder).node('node-1')).cert, 'utf8');
    const pki = new Pki(folder);
    const again = await pki.node('node-1', true);
    expect(await readFile(again.cert, 'utf8')).not.toBe(first);
    expect(await handshake(await pki.controlPlane(), again)).toBe('node-1');
  });

  it('are made again, for everyone, when the authority is lost or damaged', async () => {
    const before = await new Pki(folder).node('node-1');
    const first = new X509Certificate(await readFile(before.cert));
    await writeFile(join(folder, 'ca.crt'), 'damaged');
    const pki = new Pki(folder);
    const after = await pki.node('node-1');
    expect(new X509Certificate(await readFile(after.cert)).fingerprint256).not.toBe(first.fingerprint256);
    expect(await handshake(await pki.controlPlane(), after)).toBe('node-1');
  });

  it('are made again when a crash left a key without its certificate', async () => {
    const pki = new Pki(folder);
    const { key } = await pki.node('node-1');
    await writeFile(key, await readFile((await pki.node('node-2')).key));
    const next = new Pki(folder);
    expect(await handshake(await next.controlPlane(), await next.node('node-1'))).toBe('node-1');
  });
});
