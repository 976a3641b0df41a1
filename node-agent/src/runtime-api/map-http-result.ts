import { Worker } from 'node:worker_threads';
import { type HttpResult, httpResult } from './http-result.js';

/** The worst that so many bytes can hold takes the event loop less than a millisecond. */
const INLINE_BYTES_MAX = 16 * 1024;
/** The largest takes 50 ms on an idle machine. */
const JOB_DEADLINE_MS = 5_000;
const IDLE_MS = 30_000;

/** From `src` as well as from `dist`: a worker is started from compiled code. */
const PROGRAM = new URL('../../dist/runtime-api/http-result-worker.js', import.meta.url);

export interface Job {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly contentType: string | undefined;
}

/**
 * Maps what a program answered to an HTTP response. Large answers are mapped in a thread, one at a time, so that no function's answer holds
 * up the event loop; the thread ends when it has been idle for a while. `bytes` may be taken away from the caller.
 */
export async function mapHttpResult(bytes: Buffer, contentType: string | undefined): Promise<HttpResult> {
  if (bytes.length <= INLINE_BYTES_MAX) return httpResult(bytes, contentType);
  const mine = last.then(() => mapInThread(ownMemory(bytes), contentType));
  last = mine.catch(() => {});
  return mine;
}

let last: Promise<unknown> = Promise.resolve();
let worker: Worker | undefined;
let idle: NodeJS.Timeout | undefined;

function mapInThread(bytes: Uint8Array<ArrayBuffer>, contentType: string | undefined): Promise<HttpResult> {
  clearTimeout(idle);
  worker ??= startWorker();
  const thread = worker;
  return new Promise((resolve, reject) => {
    const settle = (): void => {
      clearTimeout(deadline);
      thread.off('message', onMessage);
      thread.off('error', onError);
      idle = setTimeout(endWorker, IDLE_MS).unref();
    };
    const onMessage = (result: HttpResult): void => {
      settle();
      resolve(result.kind === 'invalid' ? result : { ...result, body: asBuffer(result.body) });
    };
    const onError = (err: unknown): void => {
      settle();
      endWorker();
      reject(err);
    };
    const deadline = setTimeout(() => onError(new Error('mapping an HTTP response took too long')), JOB_DEADLINE_MS);
    thread.on('message', onMessage);
    thread.on('error', onError);
    thread.postMessage({ bytes, contentType } satisfies Job, [bytes.buffer]);
  });
}

function startWorker(): Worker {
  const thread = new Worker(PROGRAM, { env: {}, argv: [], stdin: false });
  thread.unref();
  return thread;
}

function endWorker(): void {
  void worker?.terminate();
  worker = undefined;
}

/** Only memory that nothing else lives in can be handed to another thread. */
function ownMemory(bytes: Buffer): Uint8Array<ArrayBuffer> {
  return bytes.buffer instanceof ArrayBuffer && bytes.length === bytes.buffer.byteLength
    ? new Uint8Array(bytes.buffer)
    : Uint8Array.from(bytes);
}

function asBuffer(body: Uint8Array): Buffer {
  return Buffer.from(body.buffer, body.byteOffset, body.byteLength);
}
