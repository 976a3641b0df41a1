import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import { getRequestListener, type HttpBindings } from '@hono/node-server';
import { FleetError } from '@lambda-fleet/common/errors';
import type { Logger } from '@lambda-fleet/common/logger';
import type { Hono } from 'hono';
import { v7 as uuidv7 } from 'uuid';
import { splitFunctionPath, splitTarget } from '../gateway/function-path.js';
import { type GatewayRequest, handleGateway } from '../gateway/gateway-handler.js';
import { type HostRules, hostTarget } from '../gateway/host-target.js';
import { ClientGone } from './collect-body.js';
import { handleInvocation, type InvokeHandlerOptions, invokeTarget } from './invoke-handler.js';
import { renderError } from './render-error.js';
import type { RequestContext } from './request-context.js';
import { sendError } from './send-error.js';

export interface RequestListenerOptions extends InvokeHandlerOptions {
  readonly api: Hono<{ Bindings: HttpBindings }>;
  readonly hosts: HostRules;
  readonly log: Logger;
  readonly observeHttp: (route: string, method: string, code: number, seconds: number) => void;
}

/**
 * The first to see a request. Invocations and the gateway's requests are handled
 * on Node's own objects, because building Request and Response objects around
 * them took half of the throughput; everything else goes through Hono.
 */
export function createRequestListener(options: RequestListenerOptions): RequestListener {
  const { api, hosts, log, observeHttp } = options;
  // HTTP/1.0 has no Host, and a URL needs one.
  const handleApi = getRequestListener(api.fetch, { overrideGlobalObjects: false, hostname: 'localhost' });

  const direct = async (
    req: IncomingMessage,
    res: ServerResponse,
    context: RequestContext,
    route: string,
    handle: () => void | Promise<void>,
  ): Promise<void> => {
    try {
      await handle();
    } catch (err) {
      if (err instanceof ClientGone) res.destroy();
      else sendError(req, res, renderError(err, context.requestId, log), context.requestId);
    }
    const seconds = (performance.now() - context.arrivedAt) / 1_000;
    observeHttp(route, req.method ?? '', res.statusCode, seconds);
  };

  return (req, res) => {
    const context = { requestId: uuidv7(), arrivedAt: performance.now() };
    const url = req.url ?? '/';
    const host = hostTarget(req.headers.host, hosts);
    if (req.headers.host === undefined && req.httpVersion !== '1.0') {
      void direct(req, res, context, 'no host', () => Promise.reject(noHost()));
      return;
    }
    if (host.kind === 'unknown') {
      void direct(req, res, context, 'unknown host', () => Promise.reject(unknownHost(req.headers.host, hosts)));
    } else if (host.kind === 'function') {
      void direct(req, res, context, 'gateway', () => {
        const target = { functionName: host.name, domainName: host.domainName, ...splitTarget(url) };
        return handleGateway(req, res, target, context, options);
      });
    } else if (url.startsWith('/fn/')) {
      void direct(req, res, context, '/fn/:name/*', () =>
        handleGateway(req, res, pathTarget(req, url), context, options),
      );
    } else {
      const target = req.method === 'POST' ? invokeTarget(url) : undefined;
      if (target !== undefined) {
        const route = target.by === 'name' ? '/api/functions/:name/invocations' : '/api/execute/:route';
        void direct(req, res, context, route, () => handleInvocation(req, res, target, context, options));
        return;
      }
      res.setHeader('x-request-id', context.requestId);
      // It answers errors by itself.
      void handleApi(req, res);
    }
  };
}

function pathTarget(req: IncomingMessage, url: string): GatewayRequest {
  const { name, path, query } = splitFunctionPath(splitTarget(url));
  const domainName = (req.headers.host ?? '').toLowerCase().replace(/:\d+$/, '');
  return { functionName: name, domainName, path, query };
}

function noHost(): FleetError {
  return new FleetError('invalid_request', 'HTTP/1.1 requests need a Host header.');
}

function unknownHost(host: string | undefined, { domains }: HostRules): FleetError {
  return new FleetError(
    'route_not_found',
    `The host "${(host ?? '').slice(0, 100)}" is not served here. Functions are at <name>.${domains[0] ?? 'localhost'} and at /fn/<name>/.`,
  );
}
