import type { IncomingMessage } from 'node:http';
import { CliError } from '../cli-error.js';
import { EXIT, exitCodeOf } from '../exit-codes.js';
import type { Server } from '../find-server.js';
import { printable } from '../terminal-text.js';
import { type HttpRequest, type HttpResponse, openStream, readAll, send } from './http.js';

export interface ApiRequest {
  readonly method: string;
  /** Below the endpoint, for example `/api/functions`. Segments that are not constant go through {@link segment}. */
  readonly path: string;
  readonly query?: Readonly<Record<string, string | number | undefined>>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array;
  readonly deadlineMs?: number;
  readonly onSent?: () => void;
}

/** The server's error envelope. */
export class ApiError extends CliError {
  override readonly name = 'ApiError';

  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly requestId: string | undefined,
    readonly details: Readonly<Record<string, unknown>>,
    next: string | undefined,
  ) {
    super(message, { exitCode: exitCodeOf(code), next });
  }
}

const DEADLINE_MS = 30_000;

/** One path segment: a name from the command line must not reach another path. */
export const segment = encodeURIComponent;

/** Calls the HTTP API of one server with its key. */
export class ApiClient {
  constructor(private readonly server: Server) {}

  get endpoint(): URL {
    return this.server.endpoint;
  }

  /** The answer as parsed JSON (undefined for 204); an error envelope is thrown as {@link ApiError}. */
  async json(request: ApiRequest): Promise<unknown> {
    const response = await this.raw(request);
    if (response.status >= 400) throw this.errorOf(response);
    if (response.body.length === 0) return undefined;
    try {
      return JSON.parse(response.body.toString());
    } catch (err) {
      throw this.notOurs(err);
    }
  }

  /** The answer as it is, whatever its status. */
  raw(request: ApiRequest): Promise<HttpResponse> {
    return send(this.#httpRequest(request));
  }

  async stream(request: ApiRequest, signal: AbortSignal): Promise<IncomingMessage> {
    const httpRequest = this.#httpRequest(request);
    const response = await openStream(httpRequest, signal);
    if (response.statusCode !== 200) {
      const body = await readAll(httpRequest, response);
      throw this.errorOf({ status: response.statusCode ?? 0, headers: response.headers, body });
    }
    return response;
  }

  errorOf(response: HttpResponse): ApiError | CliError {
    const envelope = readEnvelope(response.body);
    if (envelope === undefined) {
      if (response.status === 401 || response.status === 403) {
        return new CliError(`${this.endpoint.origin} answered ${response.status} and no Lambda Fleet error.`, {
          exitCode: EXIT.auth,
        });
      }
      return this.notOurs(undefined, response.status);
    }
    return new ApiError(
      response.status,
      envelope.code,
      printable(envelope.message),
      envelope.requestId,
      envelope.details,
      this.#nextStep(response.status),
    );
  }

  notOurs(cause?: unknown, status?: number): CliError {
    const answered = status === undefined ? 'something that is not' : `${status} without`;
    return new CliError(`${this.endpoint.origin} answered ${answered} what the Lambda Fleet API answers.`, {
      next: 'Check that --endpoint, LAMBDA_ENDPOINT or the context names a Lambda Fleet control plane.',
      cause,
    });
  }

  #httpRequest(request: ApiRequest): HttpRequest {
    const base = this.endpoint.pathname.replace(/\/$/, '');
    const url = new URL(base + request.path, this.endpoint);
    for (const [name, value] of Object.entries(request.query ?? {})) {
      if (value !== undefined) url.searchParams.set(name, String(value));
    }
    const key = this.server.apiKey?.reveal();
    return {
      method: request.method,
      url,
      namedBy: this.server.source,
      headers: { ...(key === undefined ? {} : { authorization: `Bearer ${key}` }), ...request.headers },
      body: request.body,
      deadlineMs: request.deadlineMs ?? DEADLINE_MS,
      onSent: request.onSent,
    };
  }

  #nextStep(status: number): string | undefined {
    if (status !== 401) return undefined;
    const { endpoint, apiKey, source } = this.server;
    return apiKey === undefined
      ? `No API key was found for ${endpoint.origin} (${source}). Give one with --api-key or LAMBDA_API_KEY.`
      : `The endpoint and key came from ${source}. Give another key with --api-key or LAMBDA_API_KEY.`;
  }
}

interface Envelope {
  readonly code: string;
  readonly message: string;
  readonly requestId: string | undefined;
  readonly details: Readonly<Record<string, unknown>>;
}

function readEnvelope(body: Buffer): Envelope | undefined {
  let parsed: unknown;
  try {
    parsed = JSON.parse(body.toString());
  } catch {
    // Not JSON, so not the envelope: a proxy's page, for example.
    return undefined;
  }
  const error = (parsed as { error?: Partial<Envelope> } | null)?.error;
  if (typeof error?.code !== 'string' || typeof error.message !== 'string') return undefined;
  return {
    code: error.code,
    message: error.message,
    requestId: typeof error.requestId === 'string' ? error.requestId : undefined,
    details: typeof error.details === 'object' && error.details !== null ? error.details : {},
  };
}
