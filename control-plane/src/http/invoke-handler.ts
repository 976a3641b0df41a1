import type { IncomingMessage, ServerResponse } from 'node:http';
import { FleetError } from '@lambda-fleet/common/errors';
import { ASYNC_PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_MAX } from '@lambda-fleet/common/limits';
import { InvokeKind } from '@lambda-fleet/proto';
import type { Accepted, AsyncInvocations } from '../async/async-invocations.js';
import type { ApiKeys } from '../auth/api-keys.js';
import { authenticate } from '../auth/credentials.js';
import type { VersionCache } from '../functions/version-cache.js';
import { idempotencyKeyOf, REPLAYED_HEADER } from '../idempotency/idempotency-key.js';
import { invocationHash } from '../idempotency/request-hash.js';
import type { Invoke } from '../invocations/invocation.js';
import type { BodyBudget } from './body-budget.js';
import { collectBody } from './collect-body.js';
import type { InvokeOnce } from './invoke-once.js';
import type { RequestContext } from './request-context.js';
import { traceIdOf } from './trace-id.js';
import { writeAnswer, writeResult } from './write-result.js';

export interface InvokeHandlerOptions {
  readonly asyncInvocations: AsyncInvocations;
  readonly keys: ApiKeys;
  readonly versions: VersionCache;
  readonly invoke: Invoke;
  readonly once: InvokeOnce;
  readonly budget: BodyBudget;
}

/** What an invocation route names. */
export type InvokeTarget =
  | { readonly by: 'name'; readonly name: string; readonly query: string }
  | { readonly by: 'route'; readonly route: string };

const BY_NAME = /^\/api\/functions\/([^/?]+)\/invocations(?:\?|$)/;
const BY_ROUTE = /^\/api\/execute\/([^/?]+)(?:\?|$)/;

/** The invocation route that a URL is, if it is one. */
export function invokeTarget(url: string): InvokeTarget | undefined {
  const name = BY_NAME.exec(url)?.[1];
  if (name !== undefined) return { by: 'name', name: decoded(name), query: queryOf(url) };
  const route = BY_ROUTE.exec(url)?.[1];
  return route === undefined ? undefined : { by: 'route', route: decoded(route) };
}

function queryOf(url: string): string {
  const at = url.indexOf('?');
  return at === -1 ? '' : url.slice(at + 1);
}

/** Whether the caller does not wait for the result. @throws FleetError `invalid_request` */
function isAsync(query: string): boolean {
  if (query === '') return false;
  const mode = new URLSearchParams(query).get('mode') ?? 'sync';
  if (mode === 'sync' || mode === 'async') return mode === 'async';
  throw new FleetError('invalid_request', `mode must be "sync" or "async", not "${mode.slice(0, 20)}".`, {
    field: 'mode',
  });
}

/** A segment as the other routes see it; what cannot be decoded names nothing. */
function decoded(segment: string): string {
  if (!segment.includes('%')) return segment;
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}

/** `POST /api/functions/:name/invocations` and `POST /api/execute/:route`. */
export async function handleInvocation(
  req: IncomingMessage,
  res: ServerResponse,
  target: InvokeTarget,
  context: RequestContext,
  { keys, versions, invoke, once, budget, asyncInvocations }: InvokeHandlerOptions,
): Promise<void> {
  let caller = authenticate(keys, req.headers);
  if (caller instanceof Promise) caller = await caller;
  if (caller === undefined) throw unauthorized();
  const { projectId } = caller;
  const later = target.by === 'name' && isAsync(target.query);
  const key = idempotencyKeyOf(req.headers);

  const resolveFrom = performance.now();
  let version =
    target.by === 'name' ? versions.resolve(projectId, target.name) : versions.resolveRoute(projectId, target.route);
  if (version instanceof Promise) version = await version;
  const resolveMs = performance.now() - resolveFrom;

  const receiveFrom = performance.now();
  const body = await collectBody(req, later ? ASYNC_PAYLOAD_BYTES_MAX : PAYLOAD_BYTES_MAX, budget);
  const receiveMs = performance.now() - receiveFrom;
  try {
    const traceId = traceIdOf(req.headers['x-amzn-trace-id']);
    const id = context.requestId;
    const http = target.by === 'route';
    const identity = key === undefined ? undefined : { key, requestHash: hashOf(body.bytes, { later, http }) };
    if (later) {
      const accepted = await asyncInvocations.accept(version, { id, payload: body.bytes, traceId, identity });
      writeAccepted(res, accepted, version.functionName);
      return;
    }
    const request = {
      id,
      kind: http ? InvokeKind.HTTP : InvokeKind.EVENT,
      trigger: http ? 'route' : 'api',
      payload: body.bytes,
      traceId,
      clientContext: '',
      singleUse: false,
      arrivedAt: context.arrivedAt,
      resolveMs,
      receiveMs,
    } as const;
    if (identity === undefined) {
      writeResult(res, await invoke(version, request), { http, showError: true, method: 'POST' });
    } else {
      writeAnswer(res, await once.answer(version, request, identity), 'POST');
    }
  } finally {
    body.release();
  }
}

function hashOf(payload: Buffer, { later, http }: { readonly later: boolean; readonly http: boolean }): string {
  return invocationHash(later ? 'async' : 'sync', http ? 'http' : 'event', payload);
}

function writeAccepted(res: ServerResponse, { id, replayed }: Accepted, functionName: string): void {
  const body = JSON.stringify({ id, function: functionName, status: 'queued' });
  const headers = ['content-type', 'application/json', 'content-length', String(Buffer.byteLength(body))];
  headers.push('x-request-id', id, 'location', `/api/executions/${id}`);
  if (replayed) headers.push(REPLAYED_HEADER, 'true');
  res.writeHead(202, headers).end(body);
}

export function unauthorized(): FleetError {
  return new FleetError(
    'unauthorized',
    'A valid API key is needed. Send it as "Authorization: Bearer <key>" or "x-api-key: <key>"; `lambda up` wrote one to .lambda/api-key.',
  );
}
