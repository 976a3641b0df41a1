import type { IncomingMessage, ServerResponse } from 'node:http';
import { FleetError } from '@lambda-fleet/common/errors';
import { PAYLOAD_BYTES_MAX } from '@lambda-fleet/common/limits';
import { InvokeKind } from '@lambda-fleet/proto';
import { authenticate, headersWithKeys } from '../auth/credentials.js';
import { collectBody } from '../http/collect-body.js';
import { type InvokeHandlerOptions, unauthorized } from '../http/invoke-handler.js';
import type { RequestContext } from '../http/request-context.js';
import { traceIdOf } from '../http/trace-id.js';
import { writeResult } from '../http/write-result.js';
import type { PathAndQuery } from './function-path.js';
import { httpEvent } from './http-event.js';

/** The gateway serves one project until hosts can name others. */
const PROJECT = 'default';

export interface GatewayRequest extends PathAndQuery {
  readonly functionName: string;
  readonly domainName: string;
}

/** Any method on a function's own address: the request becomes an HTTP event, the returned value the response. */
export async function handleGateway(
  req: IncomingMessage,
  res: ServerResponse,
  target: GatewayRequest,
  context: RequestContext,
  { keys, versions, invoke, budget }: InvokeHandlerOptions,
): Promise<void> {
  const resolveFrom = performance.now();
  let version = versions.resolve(PROJECT, target.functionName);
  if (version instanceof Promise) version = await version;
  const resolveMs = performance.now() - resolveFrom;

  let caller = authenticate(keys, req.headers);
  if (caller instanceof Promise) caller = await caller;
  const isOwner = caller?.projectId === version.projectId;
  if (!isOwner && version.httpAuth === 'key') throw unauthorized();

  const receiveFrom = performance.now();
  const body = await collectBody(req, PAYLOAD_BYTES_MAX, budget);
  const receiveMs = performance.now() - receiveFrom;
  try {
    const payload = httpEvent({
      method: req.method ?? 'GET',
      path: target.path,
      query: target.query,
      rawHeaders: req.rawHeaders,
      withheld: headersWithKeys(req.headers),
      body: body.bytes,
      functionName: version.functionName,
      domainName: target.domainName,
      httpVersion: req.httpVersion,
      sourceIp: sourceIp(req),
      requestId: context.requestId,
      timeEpoch: Date.now(),
    });
    if (payload.length > PAYLOAD_BYTES_MAX) {
      throw new FleetError(
        'payload_too_large',
        `The request makes an event of ${payload.length} bytes; at most ${PAYLOAD_BYTES_MAX} are allowed. Binary bodies grow by a third.`,
        { bytesMax: PAYLOAD_BYTES_MAX },
      );
    }
    const result = await invoke(version, {
      id: context.requestId,
      kind: InvokeKind.HTTP,
      trigger: 'http',
      payload,
      traceId: traceIdOf(req.headers['x-amzn-trace-id']),
      clientContext: '',
      singleUse: false,
      arrivedAt: context.arrivedAt,
      resolveMs,
      receiveMs,
    });
    writeResult(res, result, { http: true, showError: isOwner, method: req.method ?? 'GET' });
  } finally {
    body.release();
  }
}

/** IPv4 addresses that arrive over an IPv6 socket are shown as IPv4. */
function sourceIp(req: IncomingMessage): string {
  return (req.socket.remoteAddress ?? '').replace(/^::ffff:/, '');
}
