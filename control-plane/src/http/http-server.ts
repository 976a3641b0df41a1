import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { FleetError } from '@lambda-fleet/common/errors';
import { v7 as uuidv7 } from 'uuid';
import { declaresTooMuch } from './collect-body.js';
import { JSON_BODY_BYTES_MAX } from './read-input.js';
import { errorEnvelope } from './render-error.js';

/** A client has this long for its headers, so that slow ones do not collect. */
const HEADERS_DEADLINE_MS = 15_000;
/** And this long for the whole request: 50 MB at half a megabyte per second. */
const REQUEST_DEADLINE_MS = 120_000;
/** Longer than the usual 60 s of load balancers, which then close first and never meet a closed connection. */
const KEEP_ALIVE_MS = 75_000;
const HEADER_BYTES_MAX = 32 * 1024;
const CONNECTIONS_MAX = 10_000;

/** The HTTP port. */
export class HttpServer {
  readonly #server: Server;
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
    this.#server = createServer(
      {
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

  /** Takes no more connections, lets running requests finish for `graceMs`, then cuts them. */
  async close(graceMs: number): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeIdleConnections();
    const cut = setTimeout(() => this.#server.closeAllConnections(), graceMs);
    await closed;
    clearTimeout(cut);
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
