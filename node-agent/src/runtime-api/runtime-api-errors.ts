import { RESPONSE_BYTES_MAX } from '@lambda-fleet/common/limits';

/** What the Runtime API refuses a request with. Types and texts are AWS's own, because clients look at them. */
export interface Refusal {
  readonly status: number;
  readonly errorType: string;
  readonly errorMessage: string;
}

/** AWS's names of what a program's Runtime API is in. */
export type ApiState =
  | 'Started'
  | 'InitError'
  | 'Ready'
  | 'Running'
  | 'InvocationResponse'
  | 'InvocationErrorResponse'
  | 'RuntimeResponseSentState';

export function invalidTransition(from: ApiState, to: ApiState): Refusal {
  return {
    status: 403,
    errorType: 'InvalidStateTransition',
    errorMessage: `State transition from ${from} to ${to} failed for runtime. Error: State transition is not allowed`,
  };
}

export const INVALID_REQUEST_ID: Refusal = {
  status: 400,
  errorType: 'InvalidRequestID',
  errorMessage: 'Invalid request ID',
};

export const INVALID_RESPONSE_MODE: Refusal = {
  status: 400,
  errorType: 'InvalidFunctionResponseMode',
  errorMessage: 'Invalid function response mode',
};

export const TRUNCATED: Refusal = {
  status: 400,
  errorType: 'TruncatedHTTPRequest',
  errorMessage: 'HTTP request detected as truncated',
};

export const TOO_LARGE: Refusal = {
  status: 413,
  errorType: 'RequestEntityTooLarge',
  errorMessage: `Exceeded maximum allowed payload size (${RESPONSE_BYTES_MAX} bytes).`,
};

export const NOT_FOUND: Refusal = { status: 404, errorType: 'NotFound', errorMessage: 'There is no such path' };

export const METHOD_NOT_ALLOWED: Refusal = {
  status: 405,
  errorType: 'MethodNotAllowed',
  errorMessage: 'The path exists, but not with that method',
};

export const MALFORMED: Refusal = { status: 400, errorType: 'BadRequest', errorMessage: 'This is not HTTP/1.1' };

export const HEADERS_TOO_LARGE: Refusal = {
  status: 431,
  errorType: 'RequestHeaderFieldsTooLarge',
  errorMessage: 'The headers are too long',
};
