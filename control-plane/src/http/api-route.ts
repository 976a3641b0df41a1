import type { HttpBindings } from '@hono/node-server';
import type { Context } from 'hono';
import type { Caller } from '../auth/api-keys.js';

export type ApiContext = Context<{ Bindings: HttpBindings }>;

/** The id that the request listener gave to the request: a UUID of version 7. */
export function requestIdOf(c: ApiContext): string {
  return String(c.env.outgoing.getHeader('x-request-id'));
}

type Method = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';

interface Endpoint {
  readonly method: Method;
  /** In Hono's notation. */
  readonly path: string;
}

/** A route that asks for an API key; what it reads and writes belongs to the caller's project. */
export interface KeyRoute extends Endpoint {
  readonly policy: 'key';
  readonly handle: (c: ApiContext, caller: Caller) => Response | Promise<Response>;
}

/** A route that anyone who reaches the port may call. */
export interface OpenRoute extends Endpoint {
  readonly policy: 'open';
  readonly handle: (c: ApiContext) => Response | Promise<Response>;
}

/** Every route says who may call it: there is no default. */
export type ApiRoute = KeyRoute | OpenRoute;

/** Routes that {@link createRequestListener} serves beside Hono, for the sake of speed. They ask for a key themselves. */
export const DIRECT_ROUTES = [
  { method: 'POST', path: '/api/functions/:name/invocations', policy: 'key' },
  { method: 'POST', path: '/api/execute/:route', policy: 'key' },
] as const;
