import { EXIT, type ExitCode } from './exit-codes.js';

export interface CliErrorOptions {
  readonly exitCode?: ExitCode;
  /** What to do next, one line: a command where there is one. */
  readonly next?: string;
  readonly cause?: unknown;
}

/** An error for the person at the terminal: `message` says what happened and why, `next` what to do. */
export class CliError extends Error {
  override readonly name: string = 'CliError';
  readonly exitCode: ExitCode;
  readonly next: string | undefined;

  constructor(message: string, options: CliErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.exitCode = options.exitCode ?? EXIT.error;
    this.next = options.next;
  }
}

/** A mistake in what was typed or written in a file. */
export function usageError(message: string, next?: string): CliError {
  return new CliError(message, { exitCode: EXIT.usage, next });
}
