import type { Duplex } from 'node:stream';
import {
  ChannelClosed,
  type ConversationListener,
  type InitMessage,
  type InitResult,
  type InvokeMessage,
  type InvokeResult,
} from '../channel/conversation.js';
import { ProtocolViolation } from '../channel/protocol-violation.js';
import type { RuntimeConversation } from '../channel/runtime-conversation.js';
import type { RuntimeError } from '../channel/runtime-messages.js';
import { plainError } from './function-error.js';
import { InitChannel, type StartFailure } from './init-channel.js';
import type { Program } from './program.js';
import { RuntimeApi } from './runtime-api.js';

export interface ProgramConversationOptions {
  readonly stream: Duplex;
  readonly nonce: string;
  readonly helloDeadlineMs: number;
  readonly pingIntervalMs: number;
  /** What runs a function. */
  readonly programOf: (message: InitMessage) => Program;
}

/** Linux's numbers of the reasons why a program cannot be run, in the words that Go, and so AWS, has for them. */
const ERRNO_TEXTS: Readonly<Record<number, string>> = {
  2: 'no such file or directory',
  8: 'exec format error',
  12: 'cannot allocate memory',
  13: 'permission denied',
  20: 'not a directory',
  26: 'text file busy',
};

/**
 * The conversation with a program that speaks AWS's Runtime API: `init` starts it and is over with its first request for an event;
 * `invoke` is the next one. The program's output is the container's own.
 */
export class ProgramConversation implements RuntimeConversation {
  readonly hello: Promise<unknown>;
  readonly #channel: InitChannel;
  #api: RuntimeApi | undefined;
  #listener: ConversationListener | undefined;
  #closed = false;
  #rejectInit: (reason: Error) => void = () => {};

  constructor(private readonly options: ProgramConversationOptions) {
    const { stream, nonce, helloDeadlineMs, pingIntervalMs } = options;
    this.#channel = new InitChannel({
      stream,
      nonce,
      helloDeadlineMs,
      pingIntervalMs,
      listener: {
        accepted: (connection) => this.#api?.serve(connection),
        closed: (violation) => this.#channelClosed(violation),
      },
    });
    this.hello = this.#channel.hello;
  }

  listen(listener: ConversationListener): void {
    this.#listener = listener;
    if (this.#closed) listener.closed(this.#channel.violation);
  }

  async init(message: InitMessage): Promise<InitResult> {
    const program = this.options.programOf(message);
    const begun = new Promise<InitResult>((resolve, reject) => {
      this.#rejectInit = reject;
      this.#api = new RuntimeApi({
        concurrency: Math.max(1, message.concurrency),
        ready: () => resolve({ ready: true }),
        initFailed: (error) => resolve({ ready: false, error, location: undefined }),
        violated: (reason) => this.#channel.violate(new ProtocolViolation(reason)),
        charge: (bytes) => this.#channel.charge(bytes),
      });
    });
    begun.catch(() => {
      // The start below rejects for the same reason.
    });
    const { functionName, functionVersion, handler } = message;
    const failure = await this.#channel.start(program, { functionName, functionVersion, handler });
    if (failure === undefined) return begun;
    return { ready: false, error: startError(failure, program), location: undefined };
  }

  invoke(message: InvokeMessage, event: Buffer, written: () => void): Promise<InvokeResult> {
    if (this.#api === undefined || this.#closed) {
      return Promise.reject(new ChannelClosed(this.#channel.violation, false));
    }
    return this.#api.invoke(message, event, written);
  }

  setFrozen(frozen: boolean): void {
    this.#channel.setFrozen(frozen);
  }

  close(): void {
    this.#channel.close();
  }

  #channelClosed(violation: ProtocolViolation | undefined): void {
    this.#closed = true;
    this.#rejectInit(new ChannelClosed(violation));
    this.#api?.close(violation);
    this.#listener?.closed(violation);
  }
}

/** What is told of a program that could not be started. */
export function startError({ step, errno }: StartFailure, { argv, workingDirectory }: Program): RuntimeError {
  const why = ERRNO_TEXTS[errno] ?? `error ${errno}`;
  switch (step) {
    case 'port':
      return plainError('Runtime.InitError', `The Runtime API cannot be served: ${why}`);
    case 'directory':
      return plainError('Runtime.InvalidWorkingDir', `chdir ${workingDirectory}: ${why}`);
    case 'missing':
      return plainError('Runtime.InvalidEntrypoint', `Couldn't find valid bootstrap(s): [${argv[0]}]`);
    case 'program':
      return plainError('Runtime.InvalidEntrypoint', `fork/exec ${argv[0]}: ${why}`);
  }
}
