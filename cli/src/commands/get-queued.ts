import { applyEdits, format } from 'jsonc-parser';
import { type ApiClient, ApiError, segment } from '../api/client.js';
import type { HttpResponse } from '../api/http.js';
import { type DeadLetterResource, isDeadLetter } from '../api/resources.js';
import { CliError } from '../cli-error.js';
import { EXIT } from '../exit-codes.js';
import type { ServerFlags } from '../find-server.js';
import type { Session } from '../session.js';
import { renderFields } from '../table.js';
import { bytesText, printable } from '../terminal-text.js';

export interface GetQueuedOptions extends ServerFlags {
  readonly output: 'table' | 'json';
}

/** Shows a dead letter with its event, or else the execution with this id. As JSON it is printed as it came. */
export async function getQueued(session: Session, id: string, options: GetQueuedOptions): Promise<void> {
  const client = session.connect(options);
  const { output } = session;
  const response = await find(client, id);
  const found = parse(response.body) as Readonly<Record<string, unknown>> | undefined;
  if (typeof found !== 'object' || found === null) throw client.notOurs();
  if (options.output === 'json') return await output.data(`${response.body.toString()}\n`);
  if (!isDeadLetter(found)) return await output.data(renderFields(executionFields(found)));
  const { payload, isBase64Encoded } = found as { payload?: unknown; isBase64Encoded?: unknown };
  await output.data(renderFields(deadLetterFields(found)));
  if (typeof payload !== 'string' || isBase64Encoded === true) {
    output.note('The event is no text; -o json prints it as base64.');
  } else {
    await output.data(`\n${printable(pretty(payload))}\n`);
  }
}

async function find(client: ApiClient, id: string): Promise<HttpResponse> {
  const letter = await client.raw({ method: 'GET', path: `/api/dead-letters/${segment(id)}` });
  if (letter.status < 400) return letter;
  const error = client.errorOf(letter);
  if (!(error instanceof ApiError) || error.code !== 'dead_letter_not_found') throw error;
  const execution = await client.raw({ method: 'GET', path: `/api/executions/${segment(id)}` });
  if (execution.status === 404) {
    throw new CliError(`There is no dead letter and no execution with the id ${printable(id)}.`, {
      exitCode: EXIT.notFound,
      next: 'lambda queue ls and lambda executions ls list them. A dead letter that was sent again has a new id.',
    });
  }
  if (execution.status >= 400) throw client.errorOf(execution);
  return execution;
}

function deadLetterFields(letter: DeadLetterResource): [string, string][] {
  return [
    ['id', letter.id],
    ['function', letter.functionName],
    ['trigger', letter.trigger],
    ['condition', letter.condition],
    ['attempts', letter.losses === 0 ? `${letter.attempts}` : `${letter.attempts}, and ${letter.losses} lost nodes`],
    ['accepted', letter.acceptedAt],
    ['died', letter.diedAt],
    ...errorFields(letter.error),
    ['event', bytesText(letter.payloadBytes)],
  ];
}

/** Without the receipt, which is one for machines; `-o json` has it. */
function executionFields(found: Readonly<Record<string, unknown>>): [string, string][] {
  return Object.entries(found)
    .filter(([field, value]) => value !== null && field !== 'receipt')
    .flatMap(([field, value]): [string, string][] => {
      if (field === 'error') return errorFields(value);
      return [[field, typeof value === 'string' ? value : JSON.stringify(value)]];
    });
}

/** @param error as the API has it */
function errorFields(error: unknown): [string, string][] {
  if (typeof error !== 'object' || error === null) return [];
  const { errorType, errorMessage, trace } = error as Readonly<Record<string, unknown>>;
  const lines = Array.isArray(trace) ? trace.map(String) : [];
  // Node's traces begin with the error itself, which is already there.
  const places = lines.filter((line) => !line.startsWith(`${String(errorType)}:`));
  return [
    ['error', `${String(errorType)}: ${String(errorMessage)}`],
    ...places.slice(0, 20).map((line): [string, string] => ['', line.trim()]),
  ];
}

/** Laid out without being written anew: numbers keep their digits. What is no JSON stays as it is. */
function pretty(text: string): string {
  if (parse(Buffer.from(text)) === undefined) return text;
  return applyEdits(text, format(text, undefined, { tabSize: 2, insertSpaces: true, eol: '\n' }));
}

function parse(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString());
  } catch {
    // Not JSON: each caller says what that means.
    return undefined;
  }
}
