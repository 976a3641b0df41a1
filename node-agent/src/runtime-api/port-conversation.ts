import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { errorText } from '@lambda-fleet/common/errors';
import {
  ChannelClosed,
  type ConversationListener,
  type InitMessage,
  type InitResult,
  type InvokeMessage,
  type InvokeResult,
} from '../channel/conversation.js';
import type { ProtocolViolation } from '../channel/protocol-violation.js';
import type { RuntimeConversation } from '../channel/runtime-conversation.js';
import { InitChannel } from './init-channel.js';
import { exchange, httpError } from './port-exchange.js';
import { portRequest } from './port-request.js';
import type { Program } from './program.js';
import { startError } from './program-conversation.js';
import { ProgramStreamReset } from './program-stream.js';

export interface PortConversationOptions {
  readonly stream: Duplex;
  readonly nonce: string;
  readonly helloDeadlineMs: number;
  readonly pingIntervalMs: number;
  /** What runs a function. */
  readonly programOf: (message: InitMessage) => Program;
  /** Where the program serves HTTP in its sandbox. */
  readonly port: number;
}

/** From the last connection of a program that ended to the end of its channel: under 20 ms unless the machine is busy. */
const PROGRAM_END_MS = 250;

/**
 * The conversation with a program that serves HTTP: `init` starts it and is over when its port accepts a connection; `invoke` is one
 * request on a connection of its own. Whatever the server does with it is a result of the function and ends nothing else.
 */
export class PortConversation implements RuntimeConversation {
  readonly hello: Promise<unknown>;
  readonly #channel: InitChannel;
  readonly #closing = new AbortController();
  #listener: ConversationListener | undefined;

  constructor(private readonly options: PortConversationOptions) {
    const { stream, nonce, helloDeadlineMs, pingIntervalMs } = options;
    this.#channel = new InitChannel({
      ...{ stream, nonce, helloDeadlineMs, pingIntervalMs },
      listener: {
        // It is offered no Runtime API, so nothing listens where it could connect.
        accepted: (connection) => connection.destroy(),
        closed: (violation) => this.#channelClosed(violation),
      },
    });
    this.hello = this.#channel.hello;
  }

  listen(listener: ConversationListener): void {
    this.#listener = listener;
    if (this.#closing.signal.aborted) listener.closed(this.#channel.violation);
  }

  async init(message: InitMessage): Promise<InitResult> {
    const program = this.options.programOf(message);
    const { functionName, functionVersion, handler } = message;
    const failure = await this.#channel.start(program, { functionName, functionVersion, handler });
    if (failure !== undefined) return { ready: false, error: startError(failure, program), location: undefined };
    // Waits as long as init may: whoever gives up closes the channel.
    const connection = await this.#connect(true);
    connection.destroy();
    return { ready: true };
  }

  async invoke(message: InvokeMessage, event: Buffer, written: () => void): Promise<InvokeResult> {
    const request = portRequest(message, event);
    try {
      return await exchange(await this.#connect(false), request, message.http, written);
    } catch (err) {
      // A connection that broke with its program says nothing about the server; the program's end is told a moment later.
      if (await this.#closesSoon()) throw new ChannelClosed(this.#channel.violation);
      if (!(err instanceof ProgramStreamReset)) return httpError(errorText(err));
      return httpError(`nothing accepts connections on port ${this.options.port}, or the connection was reset`);
    }
  }

  setFrozen(frozen: boolean): void {
    this.#channel.setFrozen(frozen);
  }

  close(): void {
    this.#channel.close();
  }

  async #connect(wait: boolean): Promise<Duplex> {
    try {
      return await this.#channel.connect(this.options.port, { wait });
    } catch (err) {
      if (this.#closing.signal.aborted) throw new ChannelClosed(this.#channel.violation);
      throw err;
    }
  }

  async #closesSoon(): Promise<boolean> {
    const { signal } = this.#closing;
    if (signal.aborted) return true;
    await sleep(PROGRAM_END_MS, undefined, { signal }).catch(() => undefined);
    return signal.aborted;
  }

  #channelClosed(violation: ProtocolViolation | undefined): void {
    this.#closing.abort();
    this.#listener?.closed(violation);
  }
}
