import { type ErrorCode, errorText, FleetError } from '@lambda-fleet/common/errors';
import type { Logger } from '@lambda-fleet/common/logger';

export interface RenderedError {
  readonly status: number;
  readonly body: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** The one place that turns errors into HTTP. What is not a {@link FleetError} becomes `internal`; its detail goes to the log only. */
export function renderError(thrown: unknown, requestId: string, log: Logger): RenderedError {
  if (thrown instanceof FleetError) {
    log.debug({ requestId, code: thrown.code, reason: thrown.message, cause: thrown.cause }, 'request_refused');
    const retryAfter = thrown.details?.retryAfterSeconds;
    return {
      status: thrown.status,
      body: errorEnvelope(thrown.code, thrown.message, requestId, thrown.details),
      headers: {
        ...(typeof retryAfter === 'number' || thrown.retryable ? { 'retry-after': String(retryAfter ?? 1) } : {}),
        ...(thrown.code === 'unauthorized' ? { 'www-authenticate': 'Bearer' } : {}),
      },
    };
  }
  log.error({ requestId, err: thrown, reason: errorText(thrown) }, 'request_failed');
  const message = `Something went wrong in the control plane. Its log has the reason under the request id ${requestId}.`;
  return { status: 500, body: errorEnvelope('internal', message, requestId), headers: {} };
}

export function errorEnvelope(
  code: ErrorCode,
  message: string,
  requestId: string,
  details?: Readonly<Record<string, unknown>>,
): string {
  return JSON.stringify({ error: { code, message, requestId, details } });
}
