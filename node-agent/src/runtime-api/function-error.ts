import { type RuntimeFailure, readError } from '../channel/runtime-messages.js';

/** Longer reports are text: what they hold is not worth the time that parsing them may take. */
const PARSED_BYTES_MAX = 64 * 1024;
const TRACE_LINES_MAX = 50;
const VALID_TYPE = /(Runtime|Function)\.[A-Z][a-zA-Z]+/;
const MESSAGE_CHARS_MAX = 64 * 1024;

/** What `Lambda-Runtime-Function-Error-Type` says, by AWS's rules. */
function headerErrorType(header: string | undefined): string {
  const type = header ?? '';
  if (VALID_TYPE.test(type)) return type;
  return type.startsWith('Function.') ? 'Function.Unknown' : 'Runtime.Unknown';
}

/**
 * The error that a program reported: usually `{"errorMessage", "errorType", "stackTrace"}`, but it may be any bytes. The body's own type
 * is what callers see; the header's counts where it has none.
 */
export function reportedError(body: Buffer, type: string | undefined): RuntimeFailure {
  const said = parseObject(body);
  const { errorType, errorMessage, stackTrace, trace } = said ?? {};
  return plainError(
    typeof errorType === 'string' && errorType !== '' ? errorType : headerErrorType(type),
    typeof errorMessage === 'string' ? errorMessage : said === undefined ? body.toString('utf8') : '',
    Array.isArray(stackTrace) ? stackTrace : Array.isArray(trace) ? trace : [],
  );
}

/** One that the agent itself found. */
export function plainError(errorType: string, errorMessage: string, trace: readonly unknown[] = []): RuntimeFailure {
  const lines = trace.slice(0, TRACE_LINES_MAX).map(traceLine);
  const message = errorMessage.slice(0, MESSAGE_CHARS_MAX);
  return { ...readError({ errorType, errorMessage: message, trace: lines }), exiting: false };
}

/** The error that a program put behind a response which it had begun; undefined when there is none. */
export function trailerError(trailers: Readonly<Record<string, string | undefined>>): RuntimeFailure | undefined {
  const type = trailers['lambda-runtime-function-error-type'];
  if (type === undefined) return undefined;
  const body = Buffer.from(trailers['lambda-runtime-function-error-body'] ?? '', 'base64');
  return reportedError(body, type);
}

function parseObject(body: Buffer): Readonly<Record<string, unknown>> | undefined {
  if (body.length > PARSED_BYTES_MAX) return undefined;
  try {
    const value: unknown = JSON.parse(body.toString('utf8'));
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : undefined;
  } catch {
    return undefined;
  }
}

/** Text, or a frame as Go's client reports it: `{path, line, label}`. */
function traceLine(frame: unknown): string {
  if (typeof frame !== 'object' || frame === null) return String(frame);
  const { path, line, label } = frame as Readonly<Record<string, unknown>>;
  return typeof path === 'string' ? `${String(label ?? '')} (${path}:${String(line ?? '?')})` : JSON.stringify(frame);
}
