import {
  createServer,
  type IncomingMessage,
  type OutgoingHttpHeader,
  type OutgoingHttpHeaders,
  type RequestListener,
  type Server,
  ServerResponse,
} from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { FleetError } from '@lambda-fleet/common/errors';
import { v7 as uuidv7 } from 'uuid';
import { declaresTooMuch } from './collect-body.js';
import { JSON_BODY_BYTES_MAX } from './read-input.js';
import { errorEnvelope } from './render-error.js';

type Headers = OutgoingHttpHeaders | OutgoingHttpHeader[];

/** A client has this long for its headers, so that slow ones do not collect. */
const HEADERS_DEADLINE_MS = 15_000;
/** And this long for the whole request: 50 MB at half a megabyte per second. */
const REQUEST_DEADLINE_MS = 120_000;
/** Longer than the usual 60 s of load balancers, which then close first and never meet a closed connection. */
const KEEP_ALIVE_MS = 75_000;
const HEADER_BYTES_MAX = 32 * 1024;
const CONNECTIONS_MAX = 10_000;
/** How often connections that have become idle are closed while the server ends. */
const IDLE_CLOSE_MS = 50;

/**
 * The HTTP port.
 *
 * States: serving → leaving (serves everything, and asks each client to come back on another connection) → closing (takes no
 * connection; what is in progress finishes) → closed.
 */
export class HttpServer {
  readonly #server: Server;
  #leaving = false;
  /** The response that each connection is working on, so that a late parse error does not write into it. */
  readonly #answering = new WeakMap<Socket, ServerResponse>();

  constructor(listener: RequestListener) {
    const handle = (req: IncomingMessage, res: ServerResponse): void => {
      this.#answering.set(req.socket, res);
      // The connection's errors end here: handlers learn of a client that left by the close event.
      req.on('error', () => undefined);
      res.on('error', () => undefined);
      listener(req, res);
    };
    const isLeaving = (): boolean => this.#leaving;
    // Decided when the head is written: an answer that took long then still says that it is the last of its connection.
    class Response extends ServerResponse {
      override writeHead(status: number, message?: string | Headers, headers?: Headers): this {
        if (isLeaving()) this.shouldKeepAlive = false;
        if (typeof message === 'string') return super.writeHead(status, message, headers);
        return super.writeHead(status, message ?? headers);
      }
    }
    this.#server = createServer(
      {
        ServerResponse: Response,
        headersTimeout: HEADERS_DEADLINE_MS,
        requestTimeout: REQUEST_DEADLINE_MS,
        keepAliveTimeout: KEEP_ALIVE_MS,
        maxHeaderSize: HEADER_BYTES_MAX,
        connectionsCheckingInterval: 5_000,
        noDelay: true,
        // Refused by the listener, in the form of every other error.
        requireHostHeader: false,
      },
      handle,
    );
    this.#server.maxConnections = CONNECTIONS_MAX;
    // Without "100 Continue" a client keeps a body to itself that would be refused anyway.
    this.#server.on('checkContinue', (req: IncomingMessage, res: ServerResponse) => {
      if (!declaresTooMuch(req, JSON_BODY_BYTES_MAX)) res.writeContinue();
      handle(req, res);
    });
    this.#server.on('checkExpectation', (_req: IncomingMessage, res: ServerResponse) => {
      const requestId = uuidv7();
      const body = errorEnvelope(
        'invalid_request',
        'The only expectation that is understood is 100-continue.',
        requestId,
      );
      const headers = { 'content-type': 'application/json', 'x-request-id': requestId, connection: 'close' };
      res.writeHead(417, headers).end(body);
    });
    this.#server.on('clientError', (err: NodeJS.ErrnoException, socket: Socket) => this.#refuse(err, socket));
  }

  /** @throws FleetError `conflict` when the port is taken */
  listen(port: number, host: string): Promise<AddressInfo> {
    return new Promise((resolve, reject) => {
      const failed = (err: NodeJS.ErrnoException): void => {
        const taken = err.code === 'EADDRINUSE';
        const message = taken
          ? `Port ${port} on ${host} is taken by another program.`
          : `Port ${port} on ${host} cannot be opened: ${err.message}.`;
        reject(new FleetError(taken ? 'conflict' : 'unavailable', message, { port }, { cause: err }));
      };
      this.#server.once('error', failed);
      this.#server.listen(port, host, 1_024, () => {
        this.#server.off('error', failed);
        const address = this.#server.address();
        if (typeof address === 'object' && address !== null) resolve(address);
      });
    });
  }

  /** From now on each answer is the last of its connection. */
  leave(): void {
    this.#leaving = true;
  }

  /** Takes no more connections, lets running requests finish for `graceMs` or until it is hurried, then cuts them. */
  async close(graceMs: number, hurried?: AbortSignal): Promise<void> {
    this.leave();
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeIdleConnections();
    const idle = setInterval(() => this.#server.closeIdleConnections(), IDLE_CLOSE_MS);
    const cutNow = (): void => this.#server.closeAllConnections();
    const cut = setTimeout(cutNow, graceMs);
    if (hurried?.aborted === true) cutNow();
    hurried?.addEventListener('abort', cutNow, { once: true });
    await closed;
    clearInterval(idle);
    clearTimeout(cut);
    hurried?.removeEventListener('abort', cutNow);
  }

  /** Answers what Node's parser refused or what took too long, in the same form as every other error. */
  #refuse(err: NodeJS.ErrnoException, socket: Socket): void {
    const response = this.#answering.get(socket);
    const midAnswer = response?.headersSent === true && !response.writableFinished;
    if (err.code === 'ECONNRESET' || !socket.writable || midAnswer) {
      socket.destroy();
      return;
    }
    const [status, message] =
      err.code === 'ERR_HTTP_REQUEST_TIMEOUT'
        ? ['408 Request Timeout', 'The request was not complete in time.']
        : err.code === 'HPE_HEADER_OVERFLOW'
          ? [
              '431 Request Header Fields Too Large',
              `The headers are too large: at most ${HEADER_BYTES_MAX} bytes are allowed.`,
            ]
          : ['400 Bad Request', 'The request is not well-formed HTTP.'];
    const requestId = uuidv7();
    const body = errorEnvelope('invalid_request', message ?? '', requestId);
    socket.end(
      `HTTP/1.1 ${status}\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\nx-request-id: ${requestId}\r\nconnection: close\r\n\r\n${body}`,
    );
    setTimeout(() => socket.destroy(), 2_000).unref();
  }
}
