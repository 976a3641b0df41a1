import { callHandler } from './call-handler.js';
import { createContext } from './context.js';
import { setTraceId } from './environment.js';
import { readEvent } from './event.js';
import type { IdleWatch } from './idle-watch.js';
import { type Handler, loadHandler } from './load-handler.js';
import type { InitMessage, InvokeMessage } from './messages.js';
import { httpFrame, jsonFrame } from './response-frame.js';
import { marshal } from './result.js';

/** Answers one INVOKE: the RESPONSE frame, or rejects with what becomes an ERROR. `id` is JSON text. */
export type Serve = (id: string, invoke: InvokeMessage, body: Buffer) => Promise<Buffer>;

/** Loads a function's handler, and serves invocations with it. Rejects as `loadHandler` does. */
export async function serveHandler(init: InitMessage, taskRoot: string, watch: IdleWatch): Promise<Serve> {
  const handler = await loadHandler(init.handler, taskRoot);
  return (id, invoke, body) => serve(init, handler, watch, id, invoke, body);
}

async function serve(
  init: InitMessage,
  handler: Handler,
  watch: IdleWatch,
  id: string,
  invoke: InvokeMessage,
  body: Buffer,
): Promise<Buffer> {
  if (init.concurrency === 1) {
    setTraceId(invoke.traceId);
  }
  const context = createContext(init, invoke);
  const value = await callHandler(handler, readEvent(body), context, watch.whenNothingIsLeft);
  return invoke.http ? httpFrame(id, value) : jsonFrame(id, marshal(value));
}
