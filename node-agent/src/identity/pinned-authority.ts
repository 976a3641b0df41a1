import { X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import { connect, type DetailedPeerCertificate } from 'node:tls';
import { authorityPin } from '@lambda-fleet/common/join-token';

/** Whoever answers there does not have the authority that the join token names. Trying again does not help. */
export class ForeignAuthority extends Error {
  override readonly name = 'ForeignAuthority';
}

const DEADLINE_MS = 10_000;
const CHAIN_MAX = 10;

/**
 * The certificate of the fleet's authority, PEM, from the chain that a server presents: the one that has the pinned hash. A
 * hash is as good as the certificate itself, so nothing else of this connection is believed, and nothing is sent on it.
 *
 * @throws ForeignAuthority, or what is the matter with the connection
 */
export async function fetchPinnedAuthority(host: string, port: number, pin: string): Promise<string> {
  const chain = await presentedChain(host, port);
  const found = chain.find((raw) => authorityPin(raw) === pin);
  const authority = found === undefined ? undefined : new X509Certificate(found);
  if (authority?.ca !== true) {
    throw new ForeignAuthority(
      `${host}:${port} is no control plane of the fleet that this join token is for: its certificate is not of the authority that the token names. Nothing was sent to it. Check LAMBDA_ENROLL_ADDRESS, and what stands between.`,
    );
  }
  return authority.toString();
}

function presentedChain(host: string, port: number): Promise<readonly Buffer[]> {
  return new Promise((resolve, reject) => {
    const socket = connect({
      ...{ host, port, ALPNProtocols: ['h2'], timeout: DEADLINE_MS },
      ...(isIP(host) === 0 ? { servername: host } : {}),
      // There is nothing to verify it with yet.
      rejectUnauthorized: false,
    });
    socket.once('secureConnect', () => {
      const chain: Buffer[] = [];
      let at: DetailedPeerCertificate | undefined = socket.getPeerCertificate(true);
      while (at?.raw !== undefined && chain.length < CHAIN_MAX) {
        chain.push(at.raw);
        // An authority that signed itself is its own issuer.
        at = at.issuerCertificate === at ? undefined : at.issuerCertificate;
      }
      socket.destroy();
      resolve(chain);
    });
    socket.once('timeout', () =>
      socket.destroy(new Error(`${host}:${port} did not answer in ${DEADLINE_MS / 1_000} s`)),
    );
    socket.once('error', reject);
    socket.once('close', () => reject(new Error(`${host}:${port} closed the connection`)));
  });
}
