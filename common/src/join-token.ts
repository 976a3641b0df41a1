import { createHash, randomBytes } from 'node:crypto';

/**
 * `lfj_<id>_<secret><checksum>.<pin>`: 10 characters that find the row, 32 random bytes in hexadecimal, 8 digits that tell a
 * mistyped token from a wrong one, and the SHA-256 of the certificate of the fleet's authority: the one thing that a machine
 * can know a control plane by before it has ever spoken with one.
 */
const JOIN_TOKEN = /^lfj_([0-9a-f]{10})_([0-9a-f]{64})([0-9a-f]{8})\.([A-Za-z0-9_-]{43})$/;

export interface JoinTokenParts {
  /** Public: it finds the row. */
  readonly id: string;
  readonly pin: string;
}

/** @param certificate of the authority, DER */
export const authorityPin = (certificate: Uint8Array): string =>
  createHash('sha256').update(certificate).digest('base64url');

export function generateJoinToken(pin: string): { readonly id: string; readonly token: string } {
  const id = randomBytes(5).toString('hex');
  const secret = randomBytes(32).toString('hex');
  return { id, token: `lfj_${id}_${secret}${checksum(id, secret, pin)}.${pin}` };
}

/** Undefined for what is no well-formed token. */
export function parseJoinToken(token: string): JoinTokenParts | undefined {
  const [, id, secret, sum, pin] = JOIN_TOKEN.exec(token) ?? [];
  if (id === undefined || secret === undefined || pin === undefined) return undefined;
  return checksum(id, secret, pin) === sum ? { id, pin } : undefined;
}

const checksum = (id: string, secret: string, pin: string): string =>
  createHash('sha256').update(`lfj_${id}_${secret}.${pin}`).digest('hex').slice(0, 8);
