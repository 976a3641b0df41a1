import { request as httpRequest, type IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { RESPONSE_BYTES_MAX } from '@lambda-fleet/common/limits';
import type { InvokeResult } from '../channel/conversation.js';
import type { HttpHead, RuntimeFailure } from '../channel/runtime-messages.js';
import { storable } from '../channel/runtime-messages.js';
import { collectBody } from './collect-body.js';
import type { PortRequest } from './port-request.js';

const HEAD_BYTES_MAX = 32 * 1024;
const HEADER_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;
const HOP_BY_HOP = new Set([
  ...['connection', 'keep-alive', 'proxy-authenticate', 'proxy-authorization', 'proxy-connection', 'te', 'trailer'],
  ...['transfer-encoding', 'upgrade', 'content-length'],
]);
const SHOWN_BYTES_MAX = 1024;
const NO_BODY = { kind: 'whole', body: Buffer.alloc(0) } as const;

/** What a server of a function did that is no answer. */
class NoAnswer extends Error {}

/**
 * Sends one request over a connection to a function's own server and makes a result of the answer. The connection is over
 * afterwards. Rejects with an Error that says why there is no answer.
 *
 * @param http whether the answer is wanted as an HTTP response; else its body is the result
 * @param written called when the whole request was taken
 */
export async function exchange(
  connection: Duplex,
  request: PortRequest,
  http: boolean,
  written: () => void,
): Promise<InvokeResult> {
  try {
    const response = await send(connection, request, written);
    const collected = announcesOnly(request, response) ? NO_BODY : await collectBody(response, RESPONSE_BYTES_MAX);
    if (collected.kind === 'too large') return tooLarge();
    if (collected.kind === 'truncated') throw new NoAnswer('it closed the connection in the middle of its answer');
    const { body } = collected;
    return http ? { kind: 'response', body, http: headOf(response) } : resultOf(response, body);
  } finally {
    connection.destroy();
  }
}

/** An error that is told to the caller as the function's. */
export function httpError(reason: string): InvokeResult {
  return failure('Function.HttpError', `The function's server gave no answer: ${reason}`);
}

function send(connection: Duplex, request: PortRequest, written: () => void): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const { method, path, headers, body } = request;
    const outgoing = httpRequest({
      ...{ method, path, headers: { ...headers, connection: 'close' }, maxHeaderSize: HEAD_BYTES_MAX },
      // Any stream will do, although the types ask for a socket.
      createConnection: () => connection as never,
    });
    outgoing.once('response', resolve);
    outgoing.once('upgrade', () => reject(new NoAnswer('it wants to change the protocol')));
    outgoing.on('error', reject);
    outgoing.once('close', () => reject(new NoAnswer('it closed the connection')));
    outgoing.end(body, written);
  });
}

/** The length that such an answer announces is the one of another answer. */
function announcesOnly({ method }: PortRequest, { statusCode }: IncomingMessage): boolean {
  return method === 'HEAD' || statusCode === 304;
}

function headOf({ statusCode = 0, rawHeaders }: IncomingMessage): HttpHead {
  if (statusCode < 200 || statusCode > 599) throw new NoAnswer(`it answered with the status ${statusCode}`);
  const headers: [string, string][] = [];
  const cookies: string[] = [];
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]?.toLowerCase() ?? '';
    const value = rawHeaders[i + 1] ?? '';
    if (HOP_BY_HOP.has(name)) continue;
    if (!HEADER_VALUE.test(value)) throw new NoAnswer(`its header ${name} holds a character that HTTP does not allow`);
    if (name === 'set-cookie') cookies.push(value);
    else headers.push([name, value]);
  }
  return { statusCode, headers, cookies };
}

/** The result of an event that is no HTTP request. */
function resultOf({ statusCode = 0, headers }: IncomingMessage, body: Buffer): InvokeResult {
  if (statusCode < 200 || statusCode >= 400) {
    const said = body.subarray(0, SHOWN_BYTES_MAX).toString('utf8');
    return failure('Function.HttpError', `The function's server answered with the status ${statusCode}: ${said}`);
  }
  const type = headers['content-type']?.split(';', 1)[0]?.trim().toLowerCase() ?? '';
  const isJson = type === 'application/json' || type.endsWith('+json');
  const result = isJson && body.length > 0 ? body : Buffer.from(JSON.stringify(body.toString('utf8')));
  return result.length > RESPONSE_BYTES_MAX ? tooLarge() : { kind: 'response', body: result, http: undefined };
}

function tooLarge(): InvokeResult {
  return failure(
    'Function.ResponseSizeTooLarge',
    `Response payload size exceeded maximum allowed payload size (${RESPONSE_BYTES_MAX} bytes).`,
  );
}

function failure(errorType: string, errorMessage: string): InvokeResult {
  const error: RuntimeFailure = { errorType, errorMessage: storable(errorMessage), trace: [], exiting: false };
  return { kind: 'error', error };
}
