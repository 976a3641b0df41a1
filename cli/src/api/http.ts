import { type IncomingHttpHeaders, type IncomingMessage, request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import { CliError } from '../cli-error.js';
import { EXIT } from '../exit-codes.js';
import { bytesText, durationText } from '../terminal-text.js';

export interface HttpRequest {
  readonly method: string;
  readonly url: URL;
  /** Where the endpoint came from, for messages. */
  readonly namedBy: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array;
  /** Until the whole answer is here; for a stream, until its head is here. */
  readonly deadlineMs: number;
  /** Called when the whole request has been handed to the network. */
  readonly onSent?: () => void;
}

export interface HttpResponse {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

/** More than any answer of the API; a server that sends more is not ours. */
const RESPONSE_BYTES_MAX = 32 * 1024 * 1024;

/** Sends a request and reads the whole answer, whatever its status. */
export async function send(request: HttpRequest): Promise<HttpResponse> {
  const deadline = AbortSignal.timeout(request.deadlineMs);
  const response = await open(request, deadline);
  return { status: response.statusCode ?? 0, headers: response.headers, body: await readAll(request, response) };
}

/** Sends a request and returns when the head of the answer is here; `signal` ends the answer's body. */
export async function openStream(request: HttpRequest, signal: AbortSignal): Promise<IncomingMessage> {
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(new DOMException('', 'TimeoutError')), request.deadlineMs);
  try {
    return await open(request, AbortSignal.any([signal, late.signal]));
  } finally {
    clearTimeout(timer);
  }
}

export async function readAll(request: HttpRequest, response: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > RESPONSE_BYTES_MAX) {
        response.destroy();
        throw new CliError(
          `${request.url.host} sent more than ${bytesText(RESPONSE_BYTES_MAX)}, which no Lambda Fleet does.`,
        );
      }
      chunks.push(chunk);
    }
  } catch (err) {
    throw explain(request, err);
  }
  return Buffer.concat(chunks);
}

/**
 * On `node:http` and not on `fetch`, because fetch gives up after 300 s without a
 * head and a function may run for 900 s, and because it does not tell when a body has been sent.
 */
function open(request: HttpRequest, signal: AbortSignal): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const send = request.url.protocol === 'https:' ? requestHttps : requestHttp;
    const outgoing = send(request.url, {
      method: request.method,
      headers: {
        'user-agent': 'lambda-cli',
        ...request.headers,
        ...(request.body === undefined ? {} : { 'content-length': String(request.body.byteLength) }),
      },
      signal,
    });
    // A server may answer (413, 401) and close before it has read the body: the answer counts, and the
    // write error that follows it finds this promise settled.
    outgoing.once('response', resolve);
    outgoing.on('error', (err) => reject(explain(request, err)));
    if (request.onSent !== undefined) outgoing.once('finish', request.onSent);
    outgoing.end(request.body);
  });
}

function explain(request: HttpRequest, err: unknown): CliError {
  if (err instanceof CliError) return err;
  const { origin } = request.url;
  const cause = err instanceof Error && err.cause instanceof Error ? err.cause : err;
  const isName = (name: string) => [err, cause].some((e) => e instanceof Error && e.name === name);
  if (isName('TimeoutError')) {
    return new CliError(`${origin} did not answer within ${durationText(request.deadlineMs)}.`, {
      exitCode: EXIT.deadline,
      cause: err,
    });
  }
  const code = errorCode(err);
  if (code === 'ECONNREFUSED') {
    return new CliError(`Nothing answers at ${origin} (endpoint from ${request.namedBy}).`, {
      next: 'Start a fleet here with `npx lambda up`, or name a running one with --endpoint or LAMBDA_ENDPOINT.',
      cause: err,
    });
  }
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN') {
    return new CliError(`The host ${request.url.hostname} cannot be resolved (${code}).`, {
      next: 'Check --endpoint or LAMBDA_ENDPOINT.',
      cause: err,
    });
  }
  if (code === 'ECONNRESET' || code === 'EPIPE') {
    return new CliError(`${origin} closed the connection before it answered.`, {
      next: 'Whether the request took effect is not known; look with `lambda ls` before you repeat it.',
      cause: err,
    });
  }
  const text = err instanceof Error ? err.message : String(err);
  return new CliError(`The request to ${origin} failed: ${text || (code ?? 'unknown error')}.`, { cause: err });
}

/** The system's code of a network error; several addresses tried make an AggregateError. */
function errorCode(err: unknown): string | undefined {
  if (err instanceof AggregateError) return errorCode(err.errors[0]);
  return err instanceof Error && 'code' in err ? String(err.code) : undefined;
}
