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
  /** What it says, for `docs/errors.md`. */
  readonly meaning: string;
}

const caller = (status: number, meaning: string): ErrorRule => ({ status, fault: 'caller', retryable: false, meaning });
const ofFunction = (status: number, meaning: string): ErrorRule => ({
  status,
  fault: 'function',
  retryable: false,
  meaning,
});
const platform = (status: number, retryable: boolean, meaning: string): ErrorRule => ({
  status,
  fault: 'platform',
  retryable,
  meaning,
});

export const ERROR_RULES = {
  invalid_request: caller(400, 'The request is malformed, or a field of it is; the message names which and why.'),
  invalid_name: caller(400, 'A function name is 1 to 64 letters, digits, `-` and `_`.'),
  invalid_archive: caller(400, 'The archive is damaged, or an entry of it leaves its folder or is no file.'),
  unsupported_runtime: caller(400, 'There is no runtime of that name.'),
  code_syntax_error: caller(400, 'The code does not parse; `details` has `file`, `line` and `column`.'),
  handler_not_found: caller(400, 'The file or the export that the handler names is not there.'),
  build_failed: ofFunction(
    422,
    'The container image could not be built or used; the message says why, the build has its log.',
  ),
  unauthorized: caller(401, 'There is no API key, or it is not valid.'),
  forbidden: caller(403, 'The API key may not do this.'),
  function_not_found: caller(404, 'The project has no function of that name.'),
  execution_not_found: caller(404, 'There is no such execution, or it is not recorded yet.'),
  dead_letter_not_found: caller(
    404,
    'The project has no dead letter with that id; it may have been sent again or purged.',
  ),
  job_not_found: caller(404, 'The project has no job with that id, or it was removed some time after it finished.'),
  schedule_not_found: caller(404, 'The project has no schedule of that name or id.'),
  build_not_found: caller(404, 'The function has no such build, or it is too old to be kept.'),
  node_not_found: caller(404, 'The fleet has no node of that id.'),
  route_not_found: caller(404, 'Nothing is served under that path, host or route.'),
  method_not_allowed: caller(405, 'The path exists, but not with that method.'),
  conflict: caller(409, 'Something of that name exists, or changed at the same moment.'),
  enrollment_disabled: caller(
    409,
    "This control plane has not the key of the fleet's authority (`LAMBDA_TLS_CA_KEY`), so no machine can join through it.",
  ),
  drain_refused: caller(
    409,
    'Draining the node would break something; `details.reasons` has what, and the flag that overrides each.',
  ),
  idempotency_mismatch: caller(422, 'The Idempotency-Key was used for another request before.'),
  archive_too_large: caller(413, 'Archives have at most 50 MB packed, 250 MB and 20,000 entries unpacked.'),
  payload_too_large: caller(413, 'The body is over its limit: 6 MB for an event, 1 MB for an async one.'),
  unsupported_media_type: caller(415, 'The body is not of a type that is understood here.'),
  throttled: {
    ...caller(429, 'As many invocations run or wait as may; `retry-after` says when to try again.'),
    retryable: true,
  },
  function_error: ofFunction(
    502,
    "The function failed; to its owner `details` has its error's type, message and trace.",
  ),
  outcome_unknown: platform(502, false, 'The function was started and nobody can tell how it ended. It may have run.'),
  not_started: platform(503, true, 'Nothing was run: no node could take the invocation in time.'),
  unavailable: platform(503, true, 'The database, or this server, cannot do its work at the moment.'),
  timeout: ofFunction(504, 'The function did not answer within its timeout, or its code did not load in time.'),
  internal: platform(500, false, 'A fault of ours; the log has the detail under the request id.'),
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
