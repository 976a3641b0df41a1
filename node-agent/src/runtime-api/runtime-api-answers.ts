import type { ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import type { InvokeMessage } from '../channel/conversation.js';
import type { Refusal } from './runtime-api-errors.js';

const JSON_TYPE = 'application/json';
const ACCEPTED = '{"status":"OK"}\n';

/** `GET …/invocation/next`: the event and what belongs to it. */
export function sendEvent(response: ServerResponse, message: InvokeMessage, event: Buffer): void {
  const headers: Record<string, string | number> = {
    'Content-Type': JSON_TYPE,
    'Content-Length': event.length,
    'Lambda-Runtime-Aws-Request-Id': message.id,
    'Lambda-Runtime-Deadline-Ms': Math.trunc(message.deadlineMs),
    'Lambda-Runtime-Invoked-Function-Arn': printable(message.arn),
  };
  if (message.traceId !== '') headers['Lambda-Runtime-Trace-Id'] = printable(message.traceId);
  if (message.clientContext !== '') headers['Lambda-Runtime-Client-Context'] = asciiJson(message.clientContext);
  response.writeHead(200, headers);
  response.end(event);
}

export function sendAccepted(response: ServerResponse): void {
  response.writeHead(202, { 'Content-Type': JSON_TYPE, 'Content-Length': ACCEPTED.length });
  response.end(ACCEPTED);
}

export function sendRefusal(response: ServerResponse, refusal: Refusal): void {
  const body = refusalBody(refusal);
  response.writeHead(refusal.status, { 'Content-Type': JSON_TYPE, 'Content-Length': Buffer.byteLength(body) });
  response.end(body);
}

/** For what never became a request. */
export function sendRefusalOnSocket(socket: Duplex, refusal: Refusal): void {
  const body = refusalBody(refusal);
  const head = [
    `HTTP/1.1 ${refusal.status} ${refusal.errorType}`,
    `Content-Type: ${JSON_TYPE}`,
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Connection: close',
  ];
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`);
}

function refusalBody({ errorMessage, errorType }: Refusal): string {
  return `${JSON.stringify({ errorMessage, errorType })}\n`;
}

/** JSON text means the same with its other characters escaped, and Node refuses them in a header. */
function asciiJson(json: string): string {
  return json.replace(/[\r\n\t]/g, ' ').replace(/[^\x20-\x7e]/g, (char) => {
    return `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
}

function printable(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, '');
}
