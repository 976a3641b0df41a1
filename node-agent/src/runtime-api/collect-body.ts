import type { IncomingMessage } from 'node:http';

export type CollectedBody =
  | { readonly kind: 'whole'; readonly body: Buffer }
  /** More than is allowed came, or was announced. The rest still has to be read or the connection ended. */
  | { readonly kind: 'too large' }
  /** The connection ended before the body did. */
  | { readonly kind: 'truncated' };

const FIRST_BYTES = 4 * 1024;

/**
 * Reads a request's body into memory of its own, at most `bytesMax` of it. Never rejects.
 *
 * It is copied together as it comes: a program may send it byte by byte, and each piece would keep alive the whole chunk of the channel
 * that it came in.
 */
export function collectBody(request: IncomingMessage, bytesMax: number): Promise<CollectedBody> {
  const announced = Number(request.headers['content-length'] ?? 0);
  if (announced > bytesMax) return Promise.resolve({ kind: 'too large' });
  return new Promise((resolve) => {
    let body = Buffer.allocUnsafeSlow(announced > 0 ? announced : FIRST_BYTES);
    let bytes = 0;
    const settle = (collected: CollectedBody): void => {
      request.off('data', take);
      request.off('end', end);
      request.off('close', cut);
      resolve(collected);
    };
    const take = (chunk: Buffer): void => {
      if (bytes + chunk.length > bytesMax) {
        settle({ kind: 'too large' });
        return;
      }
      if (bytes + chunk.length > body.length) {
        const larger = Buffer.allocUnsafeSlow(Math.min(bytesMax, 2 * (bytes + chunk.length)));
        body.copy(larger, 0, 0, bytes);
        body = larger;
      }
      chunk.copy(body, bytes);
      bytes += chunk.length;
    };
    const end = (): void => settle({ kind: 'whole', body: fitting(body, bytes) });
    const cut = (): void => settle({ kind: 'truncated' });
    request.on('data', take);
    request.on('end', end);
    request.on('close', cut);
    // Followed by 'close'.
    request.on('error', () => {});
  });
}

/** A result is kept until it is acknowledged: memory that grew by doubling may be twice what it holds. */
function fitting(buffer: Buffer, bytes: number): Buffer {
  if (bytes === buffer.length) return buffer;
  const whole = Buffer.allocUnsafeSlow(bytes);
  buffer.copy(whole, 0, 0, bytes);
  return whole;
}
