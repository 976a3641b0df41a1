import { BACKDATED_MS } from './issue-certificate.js';

/** A node's id: the common name of its certificate. */
export const NODE_ID = /^[a-z0-9][a-z0-9.-]{0,62}$/;

/** Extended key usages. */
export const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2';
export const SERVER_AUTH = '1.3.6.1.5.5.7.3.1';

/** Whose certificate a peer has shown, and since when it holds. Times are Unix milliseconds. */
export interface NodeCertificate {
  readonly nodeId: string;
  /** A whole second. */
  readonly issuedAt: number;
  readonly expiresAt: number;
}

/** How the id stands in the certificate's subject alternative name. */
export const nodeUri = (nodeId: string): string => `urn:lambda-fleet:node:${nodeId}`;

/** @param validity as OpenSSL prints it, such as `Nov 25 14:00:00 2026 GMT` */
export function certificateTimes(validity: {
  readonly validFrom: string;
  readonly validTo: string;
}): Pick<NodeCertificate, 'issuedAt' | 'expiresAt'> {
  return { issuedAt: Date.parse(validity.validFrom) + BACKDATED_MS, expiresAt: Date.parse(validity.validTo) };
}
