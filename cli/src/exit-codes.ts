import type { ErrorCode } from '@lambda-fleet/common/errors';

/** What the exit status of `lambda` says to a script. */
export const EXIT = {
  ok: 0,
  error: 1,
  usage: 2,
  notFound: 3,
  auth: 4,
  /** Refused or in conflict: the same command may work later or after a change. */
  refused: 5,
  functionError: 6,
  /** A deadline passed: the function's own or the command's. */
  deadline: 7,
  /** A Ctrl-C ended the waiting; what was waited for goes on. */
  interrupted: 130,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

const BY_ERROR_CODE: Readonly<Record<ErrorCode, ExitCode>> = {
  invalid_request: EXIT.usage,
  invalid_name: EXIT.usage,
  unsupported_runtime: EXIT.usage,
  invalid_archive: EXIT.error,
  code_syntax_error: EXIT.error,
  handler_not_found: EXIT.error,
  build_failed: EXIT.error,
  unauthorized: EXIT.auth,
  forbidden: EXIT.auth,
  function_not_found: EXIT.notFound,
  execution_not_found: EXIT.notFound,
  dead_letter_not_found: EXIT.notFound,
  job_not_found: EXIT.notFound,
  schedule_not_found: EXIT.notFound,
  build_not_found: EXIT.notFound,
  node_not_found: EXIT.notFound,
  route_not_found: EXIT.notFound,
  method_not_allowed: EXIT.error,
  conflict: EXIT.refused,
  enrollment_disabled: EXIT.refused,
  drain_refused: EXIT.refused,
  idempotency_mismatch: EXIT.refused,
  archive_too_large: EXIT.error,
  payload_too_large: EXIT.usage,
  unsupported_media_type: EXIT.error,
  throttled: EXIT.refused,
  function_error: EXIT.functionError,
  outcome_unknown: EXIT.error,
  not_started: EXIT.refused,
  unavailable: EXIT.refused,
  timeout: EXIT.deadline,
  internal: EXIT.error,
};

/** The exit status for an error code, also one that a newer server knows and this command does not. */
export function exitCodeOf(code: string): ExitCode {
  return Object.hasOwn(BY_ERROR_CODE, code) ? BY_ERROR_CODE[code as ErrorCode] : EXIT.error;
}
