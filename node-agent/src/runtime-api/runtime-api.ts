import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { errorText } from '@lambda-fleet/common/errors';
import { RESPONSE_BYTES_MAX } from '@lambda-fleet/common/limits';
import type { InvokeMessage, InvokeResult } from '../channel/conversation.js';
import type { ProtocolViolation } from '../channel/protocol-violation.js';
import type { RuntimeFailure } from '../channel/runtime-messages.js';
import { collectBody } from './collect-body.js';
import { plainError, reportedError, trailerError } from './function-error.js';
import { mapHttpResult } from './map-http-result.js';
import { isRefusal, type ProgramInvocation, ProgramInvocations } from './program-invocations.js';
import { sendAccepted, sendEvent, sendRefusal, sendRefusalOnSocket } from './runtime-api-answers.js';
import {
  HEADERS_TOO_LARGE,
  INVALID_RESPONSE_MODE,
  MALFORMED,
  METHOD_NOT_ALLOWED,
  NOT_FOUND,
  type Refusal,
  TOO_LARGE,
  TRUNCATED,
} from './runtime-api-errors.js';

export interface RuntimeApiOptions {
  /** Invocations at a time. */
  readonly concurrency: number;
  /** The program asked for its first event. */
  readonly ready: () => void;
  /** The program said that it cannot start. */
  readonly initFailed: (error: RuntimeFailure) => void;
  /** The program did, at the agent's cost, what no client of the API does. */
  readonly violated: (reason: string) => void;
  /** Answering cost the agent as much as reading so many bytes. */
  readonly charge: (bytes: number) => void;
}

const PREFIX = '/2018-06-01/runtime/';
const ANSWER_PATH = /^invocation\/([^/]+)\/(response|error)$/;
/** Clients put the cause of an error, a JSON text with a stack, into a header. */
const HEADER_BYTES_MAX = 64 * 1024;
const ERROR_BODY_BYTES_MAX = 256 * 1024;
/** What is still read of a body that nobody wants, so that its sender gets to see the answer. */
const DISCARDED_BYTES_MAX = 8 * 1024 * 1024;
/** How long a program that has reported an error may take to ask for the next event, or to end. */
const EXIT_AFTER_ERROR_MS = 500;
/** Of requests that end in a refusal; the others are as many as there are invocations. */
const REFUSED_REQUEST_COST_BYTES = 64 * 1024;
/** Clients send a request when they have read the answer to their last one. */
const REQUESTS_IN_ONE_PIECE_MAX = 8;

/**
 * AWS's Lambda Runtime API for the program of one sandbox, spoken on connections that the static init carries. What may be said when is
 * for {@link ProgramInvocations} to know; here are paths, headers and bodies.
 *
 * The program is hostile: bodies are bounded while they arrive, what is refused costs its sender more than the agent, and of a body
 * nothing is parsed in the event loop but short ones.
 */
export class RuntimeApi {
  readonly #server: Server;
  readonly #invocations: ProgramInvocations;
  readonly #connections = new Map<Duplex, { requestsInPiece: number }>();
  readonly #delivered = new WeakSet<ProgramInvocation>();
  #closed = false;

  constructor(private readonly options: RuntimeApiOptions) {
    this.#invocations = new ProgramInvocations(options.concurrency, options.ready);
    this.#server = createServer(
      { maxHeaderSize: HEADER_BYTES_MAX, headersTimeout: 0, requestTimeout: 0, keepAliveTimeout: 0 },
      (request, response) => this.#receive(request, response),
    );
    this.#server.on('clientError', (err: NodeJS.ErrnoException, socket) => this.#clientError(err, socket));
  }

  /** A connection of the program. */
  serve(connection: Duplex): void {
    this.#connections.set(connection, { requestsInPiece: 0 });
    connection.once('close', () => this.#connections.delete(connection));
    this.#server.emit('connection', connection);
  }

  /** Resolves with the program's answer. Rejects with ChannelClosed when {@link close} comes first. */
  invoke(message: InvokeMessage, event: Buffer, written: () => void): Promise<InvokeResult> {
    return new Promise((resolve, reject) => {
      this.#invocations.add({ message, event, written, resolve, reject });
    });
  }

  close(violation: ProtocolViolation | undefined): void {
    this.#closed = true;
    this.#invocations.close(violation);
    for (const connection of this.#connections.keys()) connection.destroy();
  }

  #receive(request: IncomingMessage, response: ServerResponse): void {
    if (this.#closed || !this.#mayRequest(request.socket)) return;
    response.sendDate = false;
    const path = request.url?.split('?', 1)[0] ?? '';
    const below = path.startsWith(PREFIX) ? path.slice(PREFIX.length) : '';
    const [, id, what] = ANSWER_PATH.exec(below) ?? [];
    const isNext = below === 'invocation/next';
    if (!isNext && below !== 'init/error' && id === undefined) this.#refuse(request, response, NOT_FOUND);
    else if (request.method !== (isNext ? 'GET' : 'POST')) this.#refuse(request, response, METHOD_NOT_ALLOWED);
    else if (isNext) this.#next(request, response);
    else if (id === undefined) this.#guard(this.#initError(request, response));
    else this.#guard(what === 'response' ? this.#response(id, request, response) : this.#error(id, request, response));
  }

  /** A fault of ours that a program found must not end the agent. */
  #guard(handled: Promise<void>): void {
    handled.catch((err: unknown) => this.options.violated(`a request could not be handled (${errorText(err)})`));
  }

  /** Many small requests in one piece would hold up the event loop before anything could be charged for them. */
  #mayRequest(socket: Duplex): boolean {
    const connection = this.#connections.get(socket);
    if (connection === undefined) return false;
    if (connection.requestsInPiece === 0) process.nextTick(() => Object.assign(connection, { requestsInPiece: 0 }));
    connection.requestsInPiece += 1;
    if (connection.requestsInPiece <= REQUESTS_IN_ONE_PIECE_MAX) return true;
    this.options.violated('the program sends requests without waiting for answers');
    return false;
  }

  #next(request: IncomingMessage, response: ServerResponse): void {
    discard(request);
    const deliver = (invocation: ProgramInvocation): void => this.#deliver(invocation, response);
    response.once('close', () => this.#invocations.takeBack(deliver));
    const refusal = this.#invocations.next(deliver);
    if (refusal !== undefined) this.#refuse(request, response, refusal);
  }

  #deliver(invocation: ProgramInvocation, response: ServerResponse): void {
    const { message, event, written } = invocation;
    const again = this.#delivered.has(invocation);
    // Its time began with the first delivery, and asking again does not prolong it.
    if (again) this.options.charge(event.length + REFUSED_REQUEST_COST_BYTES);
    response.once('finish', () => {
      if (!this.#delivered.has(invocation)) written();
      this.#delivered.add(invocation);
    });
    response.once('close', () => {
      if (!response.writableFinished) this.#invocations.undelivered(message.id);
    });
    sendEvent(response, message, event.length === 0 ? EMPTY_EVENT : event);
  }

  async #response(id: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const invocation = this.#invocations.answer(id, 'InvocationResponse');
    if (isRefusal(invocation)) {
      this.#refuse(request, response, invocation);
      return;
    }
    const mode = request.headers['lambda-runtime-function-response-mode'] ?? '';
    if (mode !== '' && mode !== 'streaming') {
      this.#finish(
        invocation,
        failed('Runtime.InvalidResponseModeHeader', `The response mode "${String(mode)}" is unknown`),
      );
      this.#refuse(request, response, INVALID_RESPONSE_MODE);
      return;
    }
    const collected = await collectBody(request, RESPONSE_BYTES_MAX);
    if (collected.kind === 'whole') {
      this.#invocations.answered(id);
      sendAccepted(response);
      const midway = trailerError(request.trailers);
      invocation.resolve(
        midway === undefined
          ? await result(invocation.message.http, collected.body, request.headers['content-type'])
          : { kind: 'error', error: midway },
      );
    } else if (collected.kind === 'too large') {
      const limit = `Response payload size exceeded maximum allowed payload size (${RESPONSE_BYTES_MAX} bytes).`;
      this.#finish(invocation, failed('Function.ResponseSizeTooLarge', limit));
      this.#refuse(request, response, TOO_LARGE);
    } else {
      this.#finish(invocation, failed('Runtime.TruncatedResponse', 'The response ended before it was complete'));
      this.#refuse(request, response, TRUNCATED);
    }
  }

  async #error(id: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const invocation = this.#invocations.answer(id, 'InvocationErrorResponse');
    if (isRefusal(invocation)) {
      this.#refuse(request, response, invocation);
      return;
    }
    const { error, refusal } = await readReport(request);
    this.#invocations.answered(id);
    if (refusal === undefined) sendAccepted(response);
    else this.#refuse(request, response, refusal);
    // Many clients end the program after some errors (Go's after a panic): nothing more may be given to it then.
    const exiting = !(await this.#invocations.goesOn(EXIT_AFTER_ERROR_MS));
    invocation.resolve({ kind: 'error', error: { ...error, exiting } });
  }

  async #initError(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const early = this.#invocations.initError();
    if (early !== undefined) {
      this.#refuse(request, response, early);
      return;
    }
    const { error, refusal } = await readReport(request);
    this.options.initFailed(error);
    if (refusal === undefined) sendAccepted(response);
    else this.#refuse(request, response, refusal);
  }

  #finish(invocation: ProgramInvocation, how: InvokeResult): void {
    this.#invocations.answered(invocation.message.id);
    invocation.resolve(how);
  }

  #refuse(request: IncomingMessage, response: ServerResponse, refusal: Refusal): void {
    this.options.charge(REFUSED_REQUEST_COST_BYTES);
    discard(request);
    // Clients that get an answer while they send do not use their connection again; one that sends too much has to be told early.
    if (request.complete || refusal.status === TOO_LARGE.status) sendRefusal(response, refusal);
    else request.once('end', () => sendRefusal(response, refusal));
  }

  #clientError(err: NodeJS.ErrnoException, socket: Duplex): void {
    this.options.charge(REFUSED_REQUEST_COST_BYTES);
    if (!socket.writable) {
      socket.destroy();
      return;
    }
    const refusal =
      err.code === 'HPE_HEADER_OVERFLOW'
        ? HEADERS_TOO_LARGE
        : err.code === 'HPE_INVALID_EOF_STATE'
          ? TRUNCATED
          : MALFORMED;
    sendRefusalOnSocket(socket, refusal);
  }
}

/** As for every runtime. */
const EMPTY_EVENT = Buffer.from('{}');

function failed(errorType: string, errorMessage: string): InvokeResult {
  return { kind: 'error', error: plainError(errorType, errorMessage) };
}

async function result(http: boolean, body: Buffer, contentType: string | undefined): Promise<InvokeResult> {
  if (!http) return { kind: 'response', body, http: undefined };
  const mapped = await mapHttpResult(body, contentType).catch((err: unknown) => ({
    kind: 'invalid' as const,
    problem: `it could not be read (${errorText(err)})`,
  }));
  if (mapped.kind === 'response') return { kind: 'response', http: mapped.http, body: asBuffer(mapped.body) };
  return failed('Runtime.InvalidHttpResponse', `The function's HTTP response is malformed: ${mapped.problem}.`);
}

/** What a program reports about a failure, and why its report is refused if it is. */
async function readReport(request: IncomingMessage): Promise<{ error: RuntimeFailure; refusal: Refusal | undefined }> {
  const type = request.headers['lambda-runtime-function-error-type']?.toString();
  const collected = await collectBody(request, ERROR_BODY_BYTES_MAX);
  if (collected.kind === 'whole') return { error: reportedError(collected.body, type), refusal: undefined };
  const tooLarge = collected.kind === 'too large';
  const why = tooLarge ? `is longer than ${ERROR_BODY_BYTES_MAX} bytes` : 'ended before it was complete';
  const error = reportedError(Buffer.from(`The error that the function reported ${why}`), type);
  return { error, refusal: tooLarge ? { ...TOO_LARGE, errorMessage: `An error ${why}.` } : TRUNCATED };
}

/** Reads what nobody wants, for a while. */
function discard(request: IncomingMessage): void {
  let bytes = 0;
  request.on('error', () => {});
  request.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes > DISCARDED_BYTES_MAX) request.destroy();
  });
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
