import { inspectArchive } from '@lambda-fleet/common/archives/inspect-archive';
import { FleetError } from '@lambda-fleet/common/errors';
import { type FunctionError, InvokeKind } from '@lambda-fleet/proto';
import { v7 as uuidv7 } from 'uuid';
import type { InvocationResult, Invoke } from '../invocations/invocation.js';
import type { ResolvedVersion } from './resolved-version.js';

/**
 * Loads the code of a candidate version once, in a sandbox of a node: user code
 * is never parsed or run in this process.
 *
 * Refused is what no change of the environment can mend. Code that fails while
 * it loads is let through with a warning, because a variable or a service may be all it lacks.
 *
 * @returns warnings
 * @throws FleetError `code_syntax_error`, `handler_not_found`, `not_started`
 */
export async function checkCode(
  invoke: Invoke,
  candidate: ResolvedVersion,
  readArchive: () => Promise<Buffer>,
): Promise<readonly string[]> {
  const result = await invoke(candidate, {
    id: uuidv7(),
    kind: InvokeKind.CHECK,
    trigger: 'deploy',
    payload: Buffer.alloc(0),
    traceId: '',
    clientContext: '',
    singleUse: false,
    arrivedAt: performance.now(),
    resolveMs: 0,
    receiveMs: 0,
  });
  switch (result.outcome) {
    case 'success':
      return [];
    case 'timeout':
      return [
        `The code did not finish loading within ${candidate.spec.initTimeoutMs} ms. Invocations will fail until it does; initTimeoutMs is the limit.`,
      ];
    case 'function_error':
      return judgeError(result.error, candidate, readArchive);
    default:
      throw couldNotCheck(result);
  }
}

function couldNotCheck(result: InvocationResult): FleetError {
  const why = result.reason ?? (result.outcome === 'outcome_unknown' ? 'the node was lost' : 'no node had room');
  return new FleetError(
    'not_started',
    `No node could check the code, so nothing was deployed: ${why}. Try again once a node is connected and has room.`,
    { reason: why },
  );
}

async function judgeError(
  error: FunctionError | undefined,
  candidate: ResolvedVersion,
  readArchive: () => Promise<Buffer>,
): Promise<readonly string[]> {
  const { handler } = candidate.spec;
  const message = firstLine(error?.errorMessage ?? 'no reason was given');
  const refuse = (code: 'code_syntax_error' | 'handler_not_found', text: string, details: Record<string, unknown>) =>
    new FleetError(code, text, details);
  switch (error?.errorType) {
    case 'Runtime.UserCodeSyntaxError': {
      const { file, line, column } = error;
      const place = `${file}:${line}:${column}`;
      const at = file === '' || message.includes(place) ? '' : ` (${place})`;
      throw refuse('code_syntax_error', `The code does not parse: ${message}${at}.`, { file, line, column });
    }
    case 'Runtime.InvalidEntrypoint':
    case 'Runtime.InvalidWorkingDir':
      throw refuse('handler_not_found', cannotBeStarted(message, candidate), { handler });
    case 'Runtime.HandlerNotFound':
    case 'Runtime.MalformedHandlerName':
      throw refuse('handler_not_found', `The handler "${handler}" was not found: ${message}.`, { handler });
    case 'Runtime.ImportModuleError':
      if (!(await hasHandlerFile(handler, candidate.spec.runtime, await readArchive()))) {
        throw refuse(
          'handler_not_found',
          `The archive has no file for the handler "${handler}": ${message}. Name the file, without its extension, before the last dot.`,
          { handler },
        );
      }
  }
  return [`The code failed while it was loaded (${error?.errorType ?? 'unknown error'}): ${message}`];
}

/** AWS's words, and for a program in an archive what they mean. */
function cannotBeStarted(message: string, { spec: { image } }: ResolvedVersion): string {
  if (image !== undefined) {
    const program = [...image.entrypoint, ...image.command].join(' ').slice(0, 200);
    return `The program "${program}" cannot be started: ${message}.`;
  }
  const what = [
    ["Couldn't find valid bootstrap", 'The archive needs a file named bootstrap at its root.'],
    [
      'permission denied',
      'Make the file executable (chmod +x bootstrap) before you pack it, in a way that keeps permissions.',
    ],
    [
      'exec format error',
      'It must be a program for Linux on the architecture of the nodes, or a script whose first line names its interpreter (#!/bin/sh).',
    ],
    [
      'no such file or directory',
      'The interpreter or the libraries that it needs are not there: link it statically, or bring them along.',
    ],
  ].find(([part]) => message.includes(part ?? ''))?.[1];
  return `The program cannot be started: ${message}.${what === undefined ? '' : ` ${what}`}`;
}

async function hasHandlerFile(handler: string, runtime: string, archive: Buffer): Promise<boolean> {
  const { has } = await inspectArchive(archive);
  if (runtime.startsWith('python')) {
    const module = handler.slice(0, Math.max(0, handler.lastIndexOf('.'))).replaceAll('.', '/');
    return has(`${module}.py`) || has(`${module}/__init__.py`);
  }
  // The first dot of the last segment ends the file's name: exports may have dots.
  const folder = handler.slice(0, handler.lastIndexOf('/') + 1);
  const file = folder + (handler.slice(folder.length).split('.')[0] ?? '');
  return ['js', 'mjs', 'cjs'].some((extension) => has(`${file}.${extension}`));
}

/** Without its full stop, since it goes into a sentence. */
function firstLine(text: string): string {
  return (text.split('\n')[0] ?? '').slice(0, 500).replace(/\.$/, '');
}
