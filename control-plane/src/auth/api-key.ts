import { createHash, createHmac, randomBytes } from 'node:crypto';

/**
 * `lf_<prefix>_<secret><checksum>`: 10 characters that find the row, 32 random
 * bytes in hexadecimal, and 8 digits that tell a mistyped key from a wrong one
 * without asking the database.
 */
const API_KEY = /^lf_([0-9a-f]{10})_([0-9a-f]{64})([0-9a-f]{8})$/;

const checksum = (prefix: string, secret: string): string =>
  createHash('sha256').update(`lf_${prefix}_${secret}`).digest('hex').slice(0, 8);

/** A new key. The text is shown once and stored nowhere. */
export function generateApiKey(): { readonly prefix: string; readonly key: string } {
  const prefix = randomBytes(5).toString('hex');
  const secret = randomBytes(32).toString('hex');
  return { prefix, key: `lf_${prefix}_${secret}${checksum(prefix, secret)}` };
}

/** The prefix of a well-formed key, undefined for anything else. */
export function apiKeyPrefix(key: string): string | undefined {
  const [, prefix, secret, sum] = API_KEY.exec(key) ?? [];
  if (prefix === undefined || secret === undefined) return undefined;
  return checksum(prefix, secret) === sum ? prefix : undefined;
}

export function hashApiKey(key: string, pepper: Buffer): Buffer {
  return createHmac('sha256', pepper).update(key).digest();
}
