/**
 * The one table of error codes. A code travels on the wire and in logs; only
 * `control-plane/src/http/render-error.ts` turns it into an HTTP response.
 */

/** Who has to act: the caller, the function's author, or the operator of the platform. */
export type Fault = 'caller' | 'function' | 'platform';

interface ErrorRule {
  /** HTTP status that the API answers with. */
  readonly status: number;
  /** Whether the same request may succeed later without being changed. */
  readonly retryable: boolean;
  readonly fault: Fault;
}

const rule = (status: number, fault: Fault, retryable = false): ErrorRule => ({ status, fault, retryable });

export const ERROR_RULES = {
  invalid_request: rule(400, 'caller'),
  invalid_name: rule(400, 'caller'),
  invalid_archive: rule(400, 'caller'),
  unsupported_runtime: rule(400, 'caller'),
  code_syntax_error: rule(400, 'caller'),
  handler_not_found: rule(400, 'caller'),
  unauthorized: rule(401, 'caller'),
  forbidden: rule(403, 'caller'),
  function_not_found: rule(404, 'caller'),
  execution_not_found: rule(404, 'caller'),
  route_not_found: rule(404, 'caller'),
  method_not_allowed: rule(405, 'caller'),
  conflict: rule(409, 'caller'),
  archive_too_large: rule(413, 'caller'),
  payload_too_large: rule(413, 'caller'),
  unsupported_media_type: rule(415, 'caller'),
  throttled: rule(429, 'caller', true),
  function_error: rule(502, 'function'),
  outcome_unknown: rule(502, 'platform'),
  not_started: rule(503, 'platform', true),
  unavailable: rule(503, 'platform', true),
  timeout: rule(504, 'function'),
  internal: rule(500, 'platform'),
} as const satisfies Record<string, ErrorRule>;

export type ErrorCode = keyof typeof ERROR_RULES;

/**
 * An error that its receiver can act on.
 *
 * `message` says what happened, why, and what to do, in one or two sentences
 * for the person who made the request; it never holds internal detail.
 * `details` are machine-readable fields that belong to the code.
 */
export class FleetError extends Error {
  override readonly name = 'FleetError';

  constructor(
    readonly code: ErrorCode,
    message: string,
    readonly details?: Readonly<Record<string, unknown>>,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }

  get status(): number {
    return ERROR_RULES[this.code].status;
  }

  get retryable(): boolean {
    return ERROR_RULES[this.code].retryable;
  }

  get fault(): Fault {
    return ERROR_RULES[this.code].fault;
  }
}

/** The text of anything that was thrown, for logs. */
export function errorText(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
