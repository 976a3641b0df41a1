import type { IncomingHttpHeaders } from 'node:http';
import { ApiError, segment } from '../api/client.js';
import { idempotencyHeader } from '../api/idempotency-header.js';
import type { ServerFlags } from '../find-server.js';
import { readJsonArgument } from '../read-json-argument.js';
import type { Session } from '../session.js';
import { bytesText, printable } from '../terminal-text.js';

export interface InvokeOptions extends ServerFlags {
  readonly data?: string;
  readonly deadline?: number;
  readonly idempotencyKey?: string;
  readonly verbose?: boolean;
}

/** A function's longest timeout, plus its queue and start. */
const DEADLINE_MS = 960_000;

/** Runs a function and writes the value that it returned, byte for byte. */
export async function invoke(session: Session, name: string, options: InvokeOptions): Promise<void> {
  const { output } = session;
  // Without `--data` what is piped in is not read.
  const body = await readJsonArgument(session, options.data ?? '{}', 'event', '--data');
  const client = session.connect(options);
  const response = await client.raw({
    method: 'POST',
    path: `/api/functions/${segment(name)}/invocations`,
    headers: { 'content-type': 'application/json', ...idempotencyHeader(options.idempotencyKey) },
    body,
    deadlineMs: options.deadline ?? DEADLINE_MS,
  });
  if (response.status < 400) {
    await output.data(response.body);
    // Only a person needs the line end; a pipe gets the exact bytes.
    if (output.dataIsTerminal && response.body.at(-1) !== 0x0a) await output.data('\n');
  }
  if (options.verbose === true) output.note(receiptLine(response.headers));
  if (response.status < 400) return;
  const error = client.errorOf(response);
  if (error instanceof ApiError) noteFunctionError(session, error);
  throw error;
}

/** A function's own error and where it was thrown: what its author needs first. */
function noteFunctionError(session: Session, error: ApiError): void {
  const { errorType, errorMessage, trace } = error.details;
  if (typeof errorType !== 'string') return;
  session.output.note(printable(`${errorType}: ${String(errorMessage ?? '')}`));
  if (!Array.isArray(trace)) return;
  for (const line of trace.slice(0, 50)) {
    const text = printable(String(line));
    // Node's traces begin with the error itself, which is already there.
    if (!text.startsWith(`${errorType}:`)) session.output.note(`  ${text.trim()}`);
  }
}

/** `success warm total 2.1 ms (run 1.3) node-1 0192…`: the receipt's headers on one line. */
function receiptLine(headers: IncomingHttpHeaders): string {
  const text = (name: string) => printable(String(headers[name] ?? ''));
  const timing = new Map(
    text('server-timing')
      .split(',')
      .map((part) => {
        const [phase = '', ...parameters] = part.trim().split(';');
        const duration = parameters.find((parameter) => parameter.trim().startsWith('dur='));
        return [phase, duration === undefined ? '' : duration.trim().slice(4)] as const;
      }),
  );
  const phases = [...timing].filter(([phase, ms]) => phase !== 'total' && phase !== '' && Number(ms) > 0);
  const total = timing.get('total');
  const parts = [
    text('x-lambda-outcome'),
    text('x-lambda-start'),
    text('idempotent-replayed') && 'replayed',
    total === undefined
      ? ''
      : `${total} ms${phases.length === 0 ? '' : ` (${phases.map((p) => p.join(' ')).join(', ')})`}`,
    text('x-lambda-version') && `version ${text('x-lambda-version')}`,
    text('x-lambda-node') && `on ${text('x-lambda-node')}`,
    text('x-lambda-cpu-ms') && `cpu ${text('x-lambda-cpu-ms')} ms`,
    text('x-lambda-memory-peak-bytes') && `memory ${bytesText(Number(text('x-lambda-memory-peak-bytes')))}`,
    text('x-request-id'),
  ];
  return parts.filter((part) => part !== '').join('  ');
}
