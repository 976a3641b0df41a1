import { randomBytes } from 'node:crypto';

const TRACE_HEADER = /^[A-Za-z0-9=;:_-]{1,256}$/;

/** The caller's X-Ray trace header when it is well-formed, else a new one. */
export function traceIdOf(header: string | string[] | undefined): string {
  if (typeof header === 'string' && TRACE_HEADER.test(header)) return header;
  const seconds = Math.floor(Date.now() / 1_000).toString(16);
  return `Root=1-${seconds}-${randomBytes(12).toString('hex')};Sampled=0`;
}
