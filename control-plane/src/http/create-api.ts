import type { HttpBindings } from '@hono/node-server';
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import { FleetError } from '@lambda-fleet/common/errors';
import type { Logger } from '@lambda-fleet/common/logger';
import { Hono } from 'hono';
import type { ContentfulStatusCode } from 'hono/utils/http-status';
import type { ApiKeys } from '../auth/api-keys.js';
import { authenticate } from '../auth/credentials.js';
import { type ApiContext, type ApiRoute, DIRECT_ROUTES, requestIdOf } from './api-route.js';
import { ClientGone } from './collect-body.js';
import { unauthorized } from './invoke-handler.js';
import { renderError } from './render-error.js';
import { sendError } from './send-error.js';

export interface ApiOptions {
  readonly routes: readonly ApiRoute[];
  readonly keys: ApiKeys;
  readonly log: Logger;
  readonly observeHttp: (route: string, method: string, code: number, seconds: number) => void;
}

/** The Hono application: nothing but the table of routes, each behind its policy. */
export function createApi({ routes, keys, log, observeHttp }: ApiOptions): Hono<{ Bindings: HttpBindings }> {
  const app = new Hono<{ Bindings: HttpBindings }>();
  app.use(async (c, next) => {
    const from = performance.now();
    await next();
    const { headersSent, statusCode } = c.env.outgoing;
    const status = headersSent ? statusCode : c.res.status;
    const route = c.req.routePath.startsWith('/api') || status < 400 ? c.req.routePath : 'unmatched';
    observeHttp(route, c.req.method, status, (performance.now() - from) / 1_000);
  });
  for (const route of routes) {
    app.on(route.method, route.path, async (c) => {
      if (route.policy === 'open') return route.handle(c);
      const caller = await authenticate(keys, c.env.incoming.headers);
      if (caller === undefined) throw unauthorized();
      return route.handle(c, caller);
    });
  }
  const methods = new Map<string, string[]>();
  for (const { path, method } of [...routes, ...DIRECT_ROUTES]) {
    methods.set(path, [...(methods.get(path) ?? []), method]);
  }
  for (const [path, allowed] of methods) {
    const allow = allowed.join(', ');
    app.all(path, (c) => {
      const error = new FleetError('method_not_allowed', `${c.req.method} is not possible here; ${allow} is.`);
      return failed(c, error, log, { allow });
    });
  }
  app.notFound((c) =>
    failed(c, new FleetError('route_not_found', `There is nothing at ${c.req.path.slice(0, 200)}.`), log),
  );
  app.onError((err, c) => failed(c, err, log));
  return app;
}

function failed(c: ApiContext, err: unknown, log: Logger, further: Record<string, string> = {}): Response {
  const { incoming, outgoing } = c.env;
  if (err instanceof ClientGone) {
    outgoing.destroy();
    return RESPONSE_ALREADY_SENT;
  }
  const error = renderError(err, requestIdOf(c), log);
  const rendered = { ...error, headers: { ...error.headers, ...further } };
  if (incoming.complete) {
    const headers = { 'content-type': 'application/json', ...rendered.headers };
    return c.newResponse(rendered.body, rendered.status as ContentfulStatusCode, headers);
  }
  sendError(incoming, outgoing, rendered, requestIdOf(c));
  return RESPONSE_ALREADY_SENT;
}
