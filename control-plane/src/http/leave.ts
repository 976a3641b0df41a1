import { setTimeout as sleep } from 'node:timers/promises';
import type { HttpServer } from './http-server.js';

export interface LeaveOptions {
  readonly server: Pick<HttpServer, 'leave' | 'close'>;
  /** `/readyz` says so from the first moment. */
  readonly readiness: { leave(): void };
  /** How long everything is served meanwhile, so that load balancers see it. */
  readonly delayMs: number;
  /** How long what is in progress then may take. */
  readonly boundMs: number;
  /** Ends what would never end by itself: those who follow something. */
  readonly endFollowing: () => void;
  /** Nobody wants to wait any more. */
  readonly hurried: AbortSignal;
}

/** Beyond delay and bound, to close what is left. */
export const LEAVE_MARGIN_MS = 2_000;

/** Stops the HTTP port so that whoever balances load between replicas loses no request. */
export async function leave(options: LeaveOptions): Promise<void> {
  const { server, readiness, delayMs, boundMs, endFollowing, hurried } = options;
  readiness.leave();
  server.leave();
  await sleep(delayMs, undefined, { signal: hurried }).catch(() => {
    // Somebody asked a second time.
  });
  endFollowing();
  await server.close(boundMs, hurried);
}
