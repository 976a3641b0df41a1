/** A thread of the agent that maps large answers of programs to HTTP responses; see `map-http-result.ts`. */

import { parentPort } from 'node:worker_threads';
import { httpResult } from './http-result.js';
import type { Job } from './map-http-result.js';

parentPort?.on('message', ({ bytes, contentType }: Job) => {
  const result = httpResult(Buffer.from(bytes.buffer), contentType);
  if (result.kind === 'invalid') {
    parentPort?.postMessage(result);
    return;
  }
  const body = inOwnMemory(result.body);
  parentPort?.postMessage({ ...result, body }, [body.buffer]);
});

/** A view takes all the memory that it looks at along; a small part of an answer, or of Node's pool, is worth a copy. */
function inOwnMemory(view: Uint8Array): Uint8Array<ArrayBuffer> {
  const { buffer } = view;
  if (!(buffer instanceof ArrayBuffer) || 2 * view.length < buffer.byteLength) return Uint8Array.from(view);
  return new Uint8Array(buffer, view.byteOffset, view.length);
}
