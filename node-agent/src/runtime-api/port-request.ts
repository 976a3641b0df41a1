import type { InvokeMessage } from '../channel/conversation.js';

/** A plain HTTP request to a function's own server. */
export interface PortRequest {
  readonly method: string;
  /** With the query. */
  readonly path: string;
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

interface HttpEvent {
  readonly rawPath?: unknown;
  readonly rawQueryString?: unknown;
  readonly headers?: unknown;
  readonly cookies?: unknown;
  readonly body?: unknown;
  readonly isBase64Encoded?: unknown;
  readonly requestContext?: { readonly http?: { readonly method?: unknown } };
}

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const TARGET = /^\/[\x21-\x7e]*$/;
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;

/** Said by us, or about the connection that the caller had to us. */
const NOT_PASSED = new Set([
  ...['connection', 'keep-alive', 'proxy-connection', 'te', 'trailer', 'transfer-encoding', 'upgrade', 'expect'],
  ...['content-length', 'cookie'],
]);

/**
 * An event of payload format 2.0 as the request that it was made from. Any other event is POSTed to `/` as it is.
 *
 * Events come from callers: whatever in one cannot be said in HTTP makes it such another event.
 */
export function portRequest(message: InvokeMessage, event: Buffer): PortRequest {
  return (message.http ? fromHttpEvent(message, event) : undefined) ?? posted(message, event);
}

function posted(message: InvokeMessage, event: Buffer): PortRequest {
  // An empty event is `{}`, as for every runtime.
  const body = event.length === 0 ? Buffer.from('{}') : event;
  const headers = { host: 'localhost', 'content-type': 'application/json', ...ownHeaders(message, body) };
  return { method: 'POST', path: '/', headers, body };
}

function fromHttpEvent(message: InvokeMessage, bytes: Buffer): PortRequest | undefined {
  const event = parse(bytes);
  const method = event?.requestContext?.http?.method;
  if (event === undefined || typeof method !== 'string' || !TOKEN.test(method)) return undefined;
  const { rawPath, rawQueryString, body: text } = event;
  const query = typeof rawQueryString === 'string' && rawQueryString !== '' ? `?${rawQueryString}` : '';
  const path = `${typeof rawPath === 'string' ? rawPath : '/'}${query}`;
  if (!TARGET.test(path)) return undefined;
  const headers = headersOf(event);
  if (headers === undefined) return undefined;
  const encoding = event.isBase64Encoded === true ? 'base64' : 'utf8';
  const body = typeof text === 'string' ? Buffer.from(text, encoding) : Buffer.alloc(0);
  return { method, path, headers: { host: 'localhost', ...headers, ...ownHeaders(message, body) }, body };
}

function parse(bytes: Buffer): HttpEvent | undefined {
  try {
    const event: unknown = JSON.parse(bytes.toString('utf8'));
    return typeof event === 'object' && event !== null ? event : undefined;
  } catch {
    // Not JSON, which the function's server will say.
    return undefined;
  }
}

function headersOf({ headers, cookies }: HttpEvent): Record<string, string> | undefined {
  const passed: Record<string, string> = Object.create(null);
  for (const [name, value] of Object.entries(headers ?? {})) {
    if (typeof value !== 'string' || !TOKEN.test(name) || !VALUE.test(value)) return undefined;
    if (!NOT_PASSED.has(name.toLowerCase())) passed[name.toLowerCase()] = value;
  }
  if (Array.isArray(cookies) && cookies.length > 0) {
    const cookie = cookies.join('; ');
    if (!VALUE.test(cookie)) return undefined;
    passed.cookie = cookie;
  }
  return passed;
}

/** Under the names that the Runtime API has for them. A caller cannot set them. */
function ownHeaders({ id, deadlineMs, arn, traceId }: InvokeMessage, body: Buffer): Record<string, string> {
  return {
    'content-length': String(body.length),
    'lambda-runtime-aws-request-id': id,
    'lambda-runtime-deadline-ms': String(deadlineMs),
    'lambda-runtime-invoked-function-arn': arn,
    ...(traceId === '' ? {} : { 'lambda-runtime-trace-id': traceId }),
  };
}
