import { type ServerResponse, validateHeaderName, validateHeaderValue } from 'node:http';
import { ERROR_RULES, type ErrorCode } from '@lambda-fleet/common/errors';
import type { HttpHead } from '@lambda-fleet/proto';
import type { InvocationResult, OutcomeName } from '../invocations/invocation.js';
import { errorEnvelope } from './render-error.js';

/** A whole answer, but for its content-length. */
export interface Answer {
  readonly status: number;
  /** Names and values in turn, which Node writes without copying them. */
  readonly headers: string[];
  readonly body: Buffer;
}

export interface WriteResultOptions {
  /** Maps a returned HTTP head to the response; otherwise the body is answered as JSON. */
  readonly http: boolean;
  /** Whether the function's own error may be shown: it is the owner's business, not that of the public. */
  readonly showError: boolean;
}

/** Headers that belong to one connection, and those that Node or we write ourselves. */
const NOT_PASSED_ON =
  /^(connection|keep-alive|proxy-authenticate|proxy-authorization|proxy-connection|te|trailer|transfer-encoding|upgrade|content-length|server-timing|x-request-id|idempotent-replayed|x-lambda-.*)$/;

const PHASES = [
  ['resolve', 'resolveMs'],
  ['receive', 'receiveMs'],
  ['admit', 'admitMs'],
  ['place', 'placeMs'],
  ['queue', 'queueMs'],
  ['sandbox', 'sandboxMs'],
  ['init', 'initMs'],
  ['run', 'runMs'],
  ['total', 'totalMs'],
] as const;

/** RETURN: answers with the result of an invocation and its receipt. */
export function writeResult(
  res: ServerResponse,
  result: InvocationResult,
  options: WriteResultOptions & { readonly method: string },
): void {
  writeAnswer(res, renderResult(result, options), options.method);
}

export function renderResult(result: InvocationResult, options: WriteResultOptions): Answer {
  const headers = receiptHeaders(result);
  if (result.outcome !== 'success') return renderFailure(result, headers, options.showError);
  if (!options.http || result.http === undefined) {
    headers.push('content-type', 'application/json');
    return { status: 200, headers, body: result.body };
  }
  if (!appendHead(headers, result.http)) {
    // Frames come from a sandbox: the runtime's own check may be forged.
    headers.push('content-type', 'application/json');
    const details = { errorType: 'Runtime.InvalidHttpResponse' };
    const message = 'The function returned an HTTP response with an invalid status or header.';
    const body = errorEnvelope('function_error', message, result.id, options.showError ? details : undefined);
    headers[headers.indexOf('x-lambda-outcome') + 1] = 'function_error';
    return { status: 502, headers, body: Buffer.from(body) };
  }
  return { status: result.http.statusCode, headers, body: result.body };
}

/** Adds the content-length to the answer's headers. */
export function writeAnswer(res: ServerResponse, { status, headers, body }: Answer, method: string): void {
  if (status === 204 || status === 304) {
    res.writeHead(status, headers).end();
    return;
  }
  headers.push('content-length', String(body.length));
  res.writeHead(status, headers);
  if (method === 'HEAD') res.end();
  else res.end(body);
}

function renderFailure(result: InvocationResult, headers: string[], showError: boolean): Answer {
  const outcome = result.outcome as Exclude<OutcomeName, 'success'>;
  if (outcome === 'throttled' || outcome === 'not_started') {
    headers.push('retry-after', String(result.retryAfterSeconds ?? 1));
  }
  const error = showError ? result.error : undefined;
  const details = error
    ? { errorType: error.errorType, errorMessage: error.errorMessage, trace: error.trace }
    : result.refusal && { reason: result.refusal };
  headers.push('content-type', 'application/json');
  const body = errorEnvelope(outcome satisfies ErrorCode, failureMessage(result, showError), result.id, details);
  return { status: ERROR_RULES[outcome].status, headers, body: Buffer.from(body) };
}

function failureMessage({ outcome, error, reason, version }: InvocationResult, showError: boolean): string {
  switch (outcome) {
    case 'function_error':
      return showError && error !== undefined
        ? `The function failed: ${error.errorType}: ${error.errorMessage}`
        : 'The function failed. Its logs say why.';
    case 'timeout':
      return showError && error !== undefined && error.errorMessage !== ''
        ? `The function ran out of time: ${error.errorMessage}`
        : `The function did not answer within its timeout of ${version.spec.timeoutMs} ms.`;
    case 'throttled':
      return `The function is running as often as it may at once${because(reason)}. Try again later.`;
    case 'not_started':
      return `The function was not started${because(reason)}. Nothing was run: the same request can be sent again.`;
    default:
      return `The function was started, and its outcome is not known${because(reason)}. It may have run.`;
  }
}

const because = (reason: string | undefined): string => (reason === undefined ? '' : `: ${reason.replace(/\.$/, '')}`);

/** The receipt as a flat list of names and values, which Node writes without copying it. */
function receiptHeaders({ id, outcome, receipt, version, nodeId }: InvocationResult): string[] {
  const headers = [
    'x-request-id',
    id,
    'x-lambda-outcome',
    outcome,
    'x-lambda-version',
    String(version.spec.versionNumber),
  ];
  if (receipt.start !== undefined) headers.push('x-lambda-start', receipt.start);
  if (nodeId !== undefined) headers.push('x-lambda-node', nodeId);
  if (receipt.isolation !== undefined) headers.push('x-lambda-isolation', receipt.isolation);
  if (receipt.shared === true) headers.push('x-lambda-shared', 'true');
  if (receipt.cpuMs !== undefined) headers.push('x-lambda-cpu-ms', receipt.cpuMs.toFixed(3));
  if (receipt.memoryPeakBytes !== undefined) {
    headers.push('x-lambda-memory-peak-bytes', String(receipt.memoryPeakBytes));
  }
  let timing = '';
  for (const [name, field] of PHASES) {
    const ms = receipt[field];
    if (ms !== undefined) timing += `${timing === '' ? '' : ', '}${name};dur=${ms.toFixed(3)}`;
  }
  if (timing !== '') headers.push('server-timing', timing);
  return headers;
}

/** False when the head cannot be sent. */
function appendHead(headers: string[], { statusCode, headers: returned, cookies }: HttpHead): boolean {
  if (!Number.isInteger(statusCode) || statusCode < 200 || statusCode > 599) return false;
  try {
    for (const { name, value } of returned) {
      const lower = name.toLowerCase();
      if (NOT_PASSED_ON.test(lower)) continue;
      validateHeaderName(lower);
      validateHeaderValue(lower, value);
      headers.push(lower, value);
    }
    for (const cookie of cookies) {
      validateHeaderValue('set-cookie', cookie);
      headers.push('set-cookie', cookie);
    }
  } catch {
    return false;
  }
  return true;
}
