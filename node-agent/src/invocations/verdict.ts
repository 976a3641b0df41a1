import { RESPONSE_BYTES_MAX } from '@lambda-fleet/common/limits';
import { FaultOwner, type FunctionError, type HttpHead, Outcome } from '@lambda-fleet/proto';
import type { InvokeResult } from '../channel/conversation.js';
import type { CodeLocation, RuntimeError } from '../channel/runtime-messages.js';
import type { SandboxExit } from '../drivers/sandbox-driver.js';
import type { SandboxShape } from '../sandboxes/sandbox-shape.js';
import type { SandboxEnd } from '../sandboxes/sandbox-states.js';

/** How an invocation ended, before it is put on the wire. */
export interface Verdict {
  readonly outcome: Outcome;
  readonly fault: FaultOwner;
  readonly error?: FunctionError | undefined;
  readonly http?: HttpHead | undefined;
  readonly body?: Buffer | undefined;
}

export const CHECKED: Verdict = { outcome: Outcome.SUCCESS, fault: FaultOwner.UNSPECIFIED };

/** A result frame that fits the protocol. */
export function fromResult(result: InvokeResult): Verdict {
  if (result.kind === 'error') return fromError(result.error);
  if (result.body.length > RESPONSE_BYTES_MAX) {
    return functionFault(
      'Function.ResponseSizeTooLarge',
      `Response payload size exceeded maximum allowed payload size (${RESPONSE_BYTES_MAX} bytes).`,
    );
  }
  const { http } = result;
  return {
    outcome: Outcome.SUCCESS,
    fault: FaultOwner.UNSPECIFIED,
    body: result.body,
    http: http && {
      statusCode: http.statusCode,
      headers: http.headers.map(([name, value]) => ({ name, value })),
      cookies: [...http.cookies],
    },
  };
}

/** An error that the runtime reported. */
export function fromError(error: RuntimeError, location?: CodeLocation): Verdict {
  return {
    outcome: Outcome.FUNCTION_ERROR,
    fault: FaultOwner.FUNCTION,
    error: {
      errorType: error.errorType,
      errorMessage: error.errorMessage,
      trace: [...error.trace],
      file: location?.file ?? '',
      line: location?.line ?? 0,
      column: location?.column ?? 0,
    },
  };
}

/** Attests that no byte of the payload entered a sandbox. */
export function notStarted(reason: string): Verdict {
  return platformFault(Outcome.NOT_STARTED, 'Sandbox.NotStarted', reason);
}

/** A run that was given up while others go on in its sandbox. */
export function fromAbandoned(reason: 'deadline' | 'cancelled', requestId: string, shape: SandboxShape): Verdict {
  return fromEnd({ kind: 'stopped', reason }, 'run', requestId, shape);
}

/** Where a sandbox was when it ended without an answer. */
export type Phase = 'boot' | 'init' | 'run';

/** What the end of its sandbox means for an invocation that had no result yet. */
export function fromEnd(end: SandboxEnd, phase: Phase, requestId: string, shape: SandboxShape): Verdict {
  const message = (text: string) => `RequestId: ${requestId} Error: ${text}`;
  switch (end.kind) {
    case 'violation':
      if (phase === 'boot') return notStarted(`The runtime did not greet as it should: ${end.violation.message}.`);
      return functionFault(
        'Runtime.ProtocolViolation',
        message(`The runtime broke its protocol: ${end.violation.message}`),
      );
    case 'stopped':
      if (end.reason === 'deadline') {
        return timeout(message(`Task timed out after ${seconds(shape.timeoutMs)} seconds`));
      }
      if (end.reason === 'init_deadline') {
        return timeout(message(`Initialization timed out after ${seconds(shape.initTimeoutMs)} seconds`));
      }
      if (phase !== 'run') return notStarted(`The sandbox was stopped before the event reached it (${end.reason}).`);
      return platformFault(Outcome.UNKNOWN, 'Sandbox.Stopped', message(`The sandbox was stopped (${end.reason})`));
    case 'exit':
      return fromExit(end.exit, phase, message, shape);
  }
}

function fromExit(
  exit: Extract<SandboxEnd, { kind: 'exit' }>['exit'],
  phase: Phase,
  message: (text: string) => string,
  shape: SandboxShape,
): Verdict {
  if (exit?.outOfMemory) {
    return functionFault(
      'Runtime.OutOfMemory',
      message(`The function exceeded its memory limit of ${shape.memoryMb} MB and was ended${peakText(exit)}`),
    );
  }
  // No user code has run yet, so it cannot be the function's doing.
  if (phase === 'boot') return notStarted('The runtime ended before it was ready for code.');
  if (exit !== undefined && exit.code === undefined && exit.signal === undefined) {
    // The engine could not say how it ended: it may be the engine that failed.
    return phase === 'init'
      ? notStarted('The sandbox was lost before the event reached it.')
      : platformFault(Outcome.UNKNOWN, 'Sandbox.Lost', message('The sandbox was lost'));
  }
  return functionFault('Runtime.ExitError', message(exitText(exit)));
}

function peakText({ memoryPeakBytes }: SandboxExit): string {
  return memoryPeakBytes === undefined ? '' : `; it used ${(memoryPeakBytes / (1024 * 1024)).toFixed(1)} MB at most`;
}

function exitText(exit: Extract<SandboxEnd, { kind: 'exit' }>['exit']): string {
  if (exit?.signal !== undefined) return `Runtime exited with error: signal: ${exit.signal}`;
  if (exit?.code === undefined || exit.code === 0) return 'Runtime exited without providing a reason';
  return `Runtime exited with error: exit status ${exit.code}`;
}

const seconds = (ms: number): string => (ms / 1000).toFixed(2);

const functionError = (errorType: string, errorMessage: string): FunctionError => ({
  errorType,
  errorMessage,
  trace: [],
  file: '',
  line: 0,
  column: 0,
});

function functionFault(errorType: string, errorMessage: string): Verdict {
  return {
    outcome: Outcome.FUNCTION_ERROR,
    fault: FaultOwner.FUNCTION,
    error: functionError(errorType, errorMessage),
  };
}

function timeout(errorMessage: string): Verdict {
  return {
    outcome: Outcome.TIMEOUT,
    fault: FaultOwner.FUNCTION,
    error: functionError('Sandbox.Timedout', errorMessage),
  };
}

function platformFault(outcome: Outcome, errorType: string, errorMessage: string): Verdict {
  return { outcome, fault: FaultOwner.PLATFORM, error: functionError(errorType, errorMessage) };
}
