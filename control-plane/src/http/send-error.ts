import type { IncomingMessage, ServerResponse } from 'node:http';
import type { RenderedError } from './render-error.js';

/** What a client may still send while it is told that its request is refused. */
const LEFTOVER_BYTES_MAX = 16 * 1024 * 1024;
const LEFTOVER_MS = 10_000;

/**
 * Answers with an error, also in the middle of a request.
 *
 * The answer leaves at once, but the response ends when the rest of the request
 * was read, within limits: a connection that is closed while the client still
 * writes is reset, and the client never sees the answer.
 */
export function sendError(req: IncomingMessage, res: ServerResponse, rendered: RenderedError, requestId: string): void {
  if (res.headersSent) {
    // Half an answer cannot be taken back; a cut connection at least cannot be taken for a whole one.
    res.destroy();
    return;
  }
  res.writeHead(rendered.status, {
    ...rendered.headers,
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(rendered.body),
    'x-request-id': requestId,
  });
  if (req.complete || req.destroyed) {
    res.end(rendered.body);
    return;
  }
  res.write(rendered.body);
  let left = LEFTOVER_BYTES_MAX;
  const timer = setTimeout(() => req.socket.destroy(), LEFTOVER_MS);
  const done = (): void => {
    clearTimeout(timer);
    res.end();
  };
  req.on('data', (chunk: Buffer) => {
    left -= chunk.length;
    if (left < 0) req.socket.destroy();
  });
  req.once('end', done).once('close', done);
  req.resume();
}
