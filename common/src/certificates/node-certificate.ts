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

/**
 * Times as OpenSSL prints them, such as `Nov 25 14:00:00 2026 GMT`. A certificate that bears the id in its subject alternative
 * name was issued here, and backdated; of any other one only its beginning is known.
 */
export function certificateTimes(certificate: {
  readonly validFrom: string;
  readonly validTo: string;
  /** `URI:…, DNS:…` */
  readonly subjectAltName: string | undefined;
}): Pick<NodeCertificate, 'issuedAt' | 'expiresAt'> {
  const backdatedMs = certificate.subjectAltName?.includes(`URI:${nodeUri('')}`) === true ? BACKDATED_MS : 0;
  return { issuedAt: Date.parse(certificate.validFrom) + backdatedMs, expiresAt: Date.parse(certificate.validTo) };
}
